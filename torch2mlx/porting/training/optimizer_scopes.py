"""Which optimizer a name is in a function: names are given to others in other functions, and
attributes in other classes."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import children, walk
from torch2mlx.porting.training.optimizers import made_optimizers, several_lists
from torch2mlx.porting.types.places import parameters

_SCOPES = (cst.FunctionDef, cst.ClassDef)


class OptimizerScopes:
    """Answers for one file."""

    def __init__(self, module: cst.Module, names: Names) -> None:
        self._around: dict[cst.CSTNode, list[Any]] = {}  # calls, functions -> what they stand in
        self._walk(module, [module])
        #: By the function, class or file: optimizer -> the modules of each that the name is given.
        self._made: dict[cst.CSTNode, dict[str, list[list[str]]]] = {}
        made = list(made_optimizers(module, names))
        several = several_lists(module) if made else set()
        for name, call, modules in made:
            around = self._around.get(call, [module])
            known = self._made.setdefault(self._owner(name, around), {}).setdefault(name, [])
            if modules not in known:
                known.append(modules)
            if call.args and _depends(call.args[0].value, several):
                known += [[], modules]  # of one or another: never one alone

    def _walk(self, node: Any, around: list[Any]) -> None:
        waiting = [(node, around)]
        while waiting:
            node, around = waiting.pop()
            if isinstance(node, (cst.Call, *_SCOPES)):
                self._around[node] = around
            inner = [*around, node] if isinstance(node, _SCOPES) else around
            waiting += [(child, inner) for child in children(node)]

    def _owner(self, name: str, around: list[Any]) -> Any:
        """The scope of a name: the class of an attribute, the function or file of others."""
        if name.startswith("self."):
            classes = [n for n in around if isinstance(n, cst.ClassDef)]
            return classes[-1] if classes else around[0]
        return next(n for n in reversed(around) if not isinstance(n, cst.ClassDef))

    def modules(self, optimizer: str, node: Any) -> list[list[str]]:
        """The modules of each optimizer that a name is given where a function or the file reads it:
        several where they differ; none where it is given one elsewhere."""
        around = [*self._around.get(node, []), node]
        for scope in reversed(around):
            found = self._made.get(scope, {}).get(optimizer)
            if found or (
                isinstance(scope, cst.FunctionDef) and optimizer in parameters(scope.params)
            ):
                return found or []  # an argument is what the call gives, whatever has its name
        return []


def _depends(given: Any, several: set[str]) -> bool:
    """Whether the parameters that an optimizer is given are of some modules or of others."""
    return any(isinstance(n, cst.Name) and n.value in several for n in walk(given))
