"""`h.detach_()` before training steps are found: `h = h.detach()`, where nothing else has it.

In torch the tensor is cut off under all its names. MLX knows no such tensor, only expressions.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import called_method
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.scopes.traversal import of_kinds, walk
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.sharing import Sharing

#: Methods of containers that keep what they are given.
_KEEPING = ("append", "insert", "add", "extend", "setdefault", "appendleft", "put", "update")
_WHY = "`{0}` is cut off under its other names too: write x = x.detach() of each of them"


def with_detached(module: cst.Module, types: Types, report: Report) -> cst.Module:
    """The file without `detach_` as a statement."""
    sharing = Sharing(module, types.names, types.of)
    given = _given(module)
    written = {}
    for line in of_kinds(module, cst.SimpleStatementLine):
        call = called_method(line, "detach_")
        if call is None or call.args or not isinstance(line.body[0], cst.Expr):
            continue
        name = dotted(call.func.value)
        plain = isinstance(call.func.value, cst.Name)
        alone = name not in given or (plain and sharing.owned(line, name, given=True))
        if name and alone:
            written[line] = name
        else:
            report.refuse(line, _WHY.format(name or "it"), ".detach_()", Code.UNCLEAR)
    return passed(module, _Written(written)) if written else module


def _given(module: cst.Module) -> set[str]:
    """What is given to other names, or into lists and loops, and what gets what another one has."""
    found = set()
    for made in of_kinds(module, cst.Assign):
        if isinstance(made.value, (cst.Name, cst.Attribute)):
            found |= {dotted(made.value)} | {dotted(t.target) for t in made.targets}
        targets = [t.target for t in made.targets]
        found |= {dotted(t) for t in targets} if len(targets) > 1 else set()
    for loop in of_kinds(module, cst.For, cst.CompFor):
        found |= {n.value for n in walk(loop.target) if isinstance(n, cst.Name)}
    for held in of_kinds(module, cst.List, cst.Tuple, cst.Dict, cst.Set):
        found |= {dotted(element.value) for element in held.elements}
    for call in of_kinds(module, cst.Call):
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in _KEEPING:
            found |= {dotted(argument.value) for argument in call.args}
    return found


class _Written(cst.CSTTransformer):
    def __init__(self, written: dict[Any, str]) -> None:
        super().__init__()
        self._written = written

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        name = self._written.get(original_node)
        if name is None:
            return updated_node
        made: Any = cst.parse_statement(f"{name} = {name}.detach()\n")
        return updated_node.with_changes(body=made.body)
