"""What a ported file still names of torch, whose imports are gone."""

from __future__ import annotations

import re
from typing import Any

import libcst as cst

from torch2mlx.catalog.processes import find_shared
from torch2mlx.errors import Code, Unsupported
from torch2mlx.porting.report import Report
from torch2mlx.porting.rules.imports import WITH_TORCH
from torch2mlx.porting.scopes.import_table import Names, collect, dotted
from torch2mlx.porting.scopes.scope_table import EITHER, ScopeTable, bound_otherwise
from torch2mlx.porting.scopes.traversal import of_kinds, walk

_BY_NAME = "what is torch's cannot be told; import the names that are used"


def remaining(names: Names, module: cst.Module, text: str, report: Report) -> list[Unsupported]:
    """Names of torch that `module`, the ported file, reads and `report` does not tell of; `names`
    are those of the original, `text` is its source."""
    here = set(collect(module).imports) | {"nn"}
    gone = {n: full for n, full in names.imports.items() if full.startswith(WITH_TORCH)}
    gone = {n: full for n, full in gone.items() if n not in here}
    told = {u.where for u in report.unsupported}
    scopes = ScopeTable(module, bound_otherwise(module, gone))
    fields: set[cst.CSTNode] = set()
    whole: dict[cst.CSTNode, str] = {}  # the dotted name that a name is the start of
    found = _unclear(names, text)
    kinds = (cst.Import, cst.ImportFrom, cst.Arg, cst.Attribute, cst.Name)
    for node in of_kinds(module, *kinds):  # what holds a name comes before it
        if isinstance(node, (cst.Import, cst.ImportFrom)):
            fields |= set(walk(node))
        elif isinstance(node, cst.Arg):
            fields |= {node.keyword} if node.keyword is not None else set()
        elif isinstance(node, cst.Attribute):
            fields.add(node.attr)
            whole[node.value] = whole.get(node, dotted(node))
        elif isinstance(node, cst.Name) and node.value in gone and node not in fields:
            said = whole.get(node) or node.value
            full = gone[node.value] + said[len(node.value) :]
            if full not in told and scopes.found.get(node) is None and node.value not in found:
                line = _first_line(text, said)
                found[full] = Unsupported(Code.NO_COUNTERPART, full, _why(full), line)
    return list(found.values())


def _why(full: str) -> str:
    """Why a name of torch has nothing in MLX."""
    shared = find_shared(full)
    return shared.note if shared is not None and not shared.mlx else "no counterpart is known"


def _unclear(names: Names, text: str) -> dict[str, Unsupported]:
    """Names that are torch's or something else, which their place does not tell."""
    found: dict[str, Unsupported] = {}
    for module in names.stars:
        if f"{module}.".startswith(("torch.", "torchvision.")):
            line = _line_of(text, rf"from\s+{re.escape(module)}\s+import\s*\*")
            what = f"from {module} import *"
            found[f"{module}.*"] = Unsupported(Code.UNCLEAR, what, _BY_NAME, line)
    for node, full in names.scopes.found.items():
        name: Any = getattr(node, "value", "")
        usual = names.imports.get(name, "")
        if full == EITHER and usual.startswith(WITH_TORCH) and name not in found:
            what = f"{name} is {usual} or something else here"
            line = _first_line(text, name)
            found[name] = Unsupported(Code.UNCLEAR, what, "give one of them another name", line)
    return found


def _line_of(text: str, pattern: str) -> int:
    """The line on which a pattern is first found; 0 where it is nowhere."""
    found = re.search(pattern, text)
    return 0 if found is None else text.count("\n", 0, found.start()) + 1


def _first_line(text: str, name: str) -> int:
    """The first line that has a name, imports left out; 0 when there is none."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    for number, line in enumerate(text.splitlines(), 1):
        if word.search(line) and not line.lstrip().startswith(("import ", "from ", "#")):
            return number
    return 0
