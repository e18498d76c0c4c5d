"""A name that is given one optimizer after another, of other modules: each gets a name of its own.

optimizer = Adam(net.parameters())          optimizer = Adam(net.parameters())
for x in first: ...                         for x in first: ...
optimizer = Adam(head.parameters())     ->  optimizer_2 = Adam(head.parameters())
for x in second: ...                        for x in second: ... optimizer_2.step() ...
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import Scanner, plain_target
from torch2mlx.porting.scopes.filled import Filled, fresh_name
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import everything, walk
from torch2mlx.porting.training.optimizers import made_optimizers

_INNER = (cst.FunctionDef, cst.ClassDef, cst.Lambda)


class SeparateOptimizers(cst.CSTTransformer):
    """Renames what comes behind such an assignment, where all of it stands in one block and no
    function within reads the name: when it is called is not seen."""

    def __init__(self, module: cst.Module, names: Names, report: Report) -> None:
        super().__init__()
        self._report, self._scan = report, Scanner()
        self._modules = {call: modules for _, call, modules in made_optimizers(module, names)}
        nodes = everything(module) if len(self._modules) > 1 else ()
        self._used = {n.value for n in nodes if isinstance(n, cst.Name)}

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        body = self._separated(list(original_node.body), list(updated_node.body))
        return updated_node if body is None else updated_node.with_changes(body=body)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        if not isinstance(updated_node.body, cst.IndentedBlock):
            return updated_node
        old, new = list(original_node.body.body), list(updated_node.body.body)
        body = self._separated(old, new)
        if body is None:
            return updated_node
        return updated_node.with_changes(body=updated_node.body.with_changes(body=body))

    def _separated(self, old: list[Any], new: list[Any]) -> list[Any] | None:
        """The statements of a block under new names; None where there is nothing to rename."""
        if len(self._modules) < 2 or len(old) != len(new):
            return None
        places: dict[str, list[int]] = {}
        for place, statement in enumerate(old):
            name = self._given(statement)
            if name:
                places.setdefault(name, []).append(place)
        wanted = {n: at for n, at in places.items() if self._differ(n, at, old)}
        for name, at in wanted.items():
            for place, behind in zip(at[1:], [*at[2:], len(new)], strict=True):
                new = self._renamed(name, place, behind, old, new)
        return new if wanted else None

    def _given(self, statement: Any) -> str:
        """The name that a statement gives an optimizer."""
        name = plain_target(statement)
        return name if name and statement.body[0].value in self._modules else ""

    def _differ(self, name: str, places: list[int], old: list[Any]) -> bool:
        """Whether the optimizers of a name are of other modules, and all that reads it is seen."""
        made = [self._modules[old[place].body[0].value] for place in places]
        if all(modules == made[0] for modules in made):
            return False
        others = [s for i, s in enumerate(old) if i not in places]
        if any(name in self._scan.stores(s) for s in others):
            return False
        parts = [n for s in old for n in walk(s)]
        outer = (n for n in parts if isinstance(n, (cst.Global, cst.Nonlocal)))
        if any(item.name.value == name for n in outer for item in n.names):
            return False
        inner = (n for n in parts if isinstance(n, _INNER))
        return not any(isinstance(n, cst.Name) and n.value == name for i in inner for n in walk(i))

    def _renamed(
        self, name: str, start: int, end: int, old: list[Any], new: list[Any]
    ) -> list[Any]:
        fresh = fresh_name(name, self._used)
        self._report.change(old[start], name, f"an optimizer of other modules: {fresh}")
        first = new[start].body[0]
        target = first.targets[0].with_changes(target=cst.Name(fresh))
        given = new[start].with_changes(body=[first.with_changes(targets=[target])])
        rules = Filled({name: cst.Name(fresh)})
        return [*new[:start], given, *(s.visit(rules) for s in new[start + 1 : end]), *new[end:]]
