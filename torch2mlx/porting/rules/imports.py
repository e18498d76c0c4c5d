"""Imports of the ported file: torch's go, those that the new names need come in their place."""

from __future__ import annotations

import re
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import OTHER
from torch2mlx.porting.scopes.passes import visited
from torch2mlx.porting.scopes.traversal import walk

#: Names in a ported file -> the imports that bring them.
_NEEDED = {
    "np": "import numpy as np",
    "mx": "import mlx.core as mx",
    "nn": "import mlx.nn as nn",
    "optim": "import mlx.optimizers as optim",
    "kit": "from torch2mlx import kit",
}
_GONE = ("torch", "torchvision", "torchaudio")
#: How names begin that cannot be imported without torch.
WITH_TORCH = ("torch", "einops.layers.")


class _Imports(cst.CSTTransformer):
    """Removes imports of torch; remembers where the first one was."""

    def __init__(self, needed: list[str]) -> None:
        super().__init__()
        self._needed = needed
        self._placed = False

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return _imports(node)

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        return _imports(node)

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        kept = [part for part in updated_node.body if not _of_torch(part)]
        if len(kept) == len(updated_node.body):
            return updated_node
        remaining = [_without(part) for part in updated_node.body]
        lines = [updated_node.with_changes(body=[part]) for part in remaining if part is not None]
        if not self._placed:
            self._placed = True
            new = [cst.parse_statement(text + "\n") for text in self._needed]
            if new:
                new[0] = new[0].with_changes(leading_lines=updated_node.leading_lines)
                lines = [*new, *(x.with_changes(leading_lines=[]) for x in lines)]
        return cst.FlattenSentinel(lines) if lines else cst.RemoveFromParent()


def _imports(node: Any) -> bool:
    return any(isinstance(found, (cst.Import, cst.ImportFrom)) for found in walk(node))


def _root(name: str) -> str:
    return name.partition(".")[0]


def _of_torch(part: Any) -> bool:
    if isinstance(part, cst.Import):
        return any(_root(dotted(alias.name)) in _GONE for alias in part.names)
    if isinstance(part, cst.ImportFrom) and part.module is not None and not part.relative:
        name = dotted(part.module)
        return _root(name) in _GONE or f"{name}.".startswith(WITH_TORCH[1:])
    return False


def _without(part: Any) -> Any:
    """An import without torch's names; None when nothing is left."""
    if not isinstance(part, cst.Import):
        return None if _of_torch(part) else part
    kept = [a for a in part.names if _root(dotted(a.name)) not in _GONE]
    if not kept:
        return None
    kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return part.with_changes(names=kept)


def with_imports(module: cst.Module, text: str, own: frozenset[str] = frozenset()) -> cst.Module:
    """The file with the imports that its text (as it will be) needs; `own`: names that it has of
    its own, so that the imports have others."""
    lines = {name: line for name, line in _NEEDED.items() if name not in own}
    lines |= {OTHER[name]: _under(_NEEDED[name], name, OTHER[name]) for name in own}
    needed = [line for name, line in lines.items() if re.search(rf"(?<![\w.]){name}\.", text)]
    needed = [line for line in needed if not re.search(rf"^\s*{re.escape(line)}\b", text, re.M)]
    changer = _Imports(needed)
    return visited(module, changer)


def _under(line: str, name: str, other: str) -> str:
    """An import under another name."""
    if line.endswith(f" as {name}"):
        line = line.removesuffix(f" as {name}")
    return line if line == f"import {other}" else f"{line} as {other}"
