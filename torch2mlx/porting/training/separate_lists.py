"""A name that holds parameters of other modules in other functions: each has a name of its own.

def first():                                def first():
    params = list(net.parameters())             params = list(net.parameters())
    ...                                         ...
def second():                           ->  def second():
    params = list(head.parameters())            params_2 = list(head.parameters())
    clip_grad_norm_(params, 1.0)                clip_grad_norm_(params_2, 1.0)
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.filled import Filled, fresh_name
from torch2mlx.porting.scopes.traversal import children, of_kinds, walk
from torch2mlx.porting.training.optimizers import chain_names, held_parameters

_SCOPES = (cst.FunctionDef, cst.ClassDef)
_OUTSIDE = (cst.Global, cst.Nonlocal)


class SeparateLists(cst.CSTTransformer):
    """Renames such names of functions: what a file holds is asked by the name alone. `found` is
    empty where there is nothing to rename."""

    def __init__(self, module: cst.Module, report: Report) -> None:
        super().__init__()
        self.found: dict[Any, dict[str, str]] = {}  # function -> name -> its new one
        self._used: set[str] = set()
        union = held_parameters(module)
        names = [n for n, modules in union.items() if len(modules) > 1 and "." not in n]
        held = _by_function(module) if names else {}
        for name in names:
            kept = {scope: tuple(by[name]) for scope, by in held.items() if name in by}
            if len(set(kept.values())) > 1:
                self._separate(module, name, kept, report)

    def _separate(
        self, module: cst.Module, name: str, kept: dict[Any, tuple[str, ...]], report: Report
    ) -> None:
        """One name for each list of modules; the first keeps its own."""
        fresh: dict[tuple[str, ...], str] = {}
        self._used = self._used or {n.value for n in of_kinds(module, cst.Name)}
        for function, modules in kept.items():
            if function is not None and _given(function, name):
                continue
            if modules not in fresh:
                fresh[modules] = fresh_name(name, self._used) if fresh else name
            if function is not None and fresh[modules] != name:
                self.found.setdefault(function, {})[name] = fresh[modules]
                told = f"parameters of other modules: {fresh[modules]}"
                report.change(function, name, told)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        for name, fresh in self.found.get(original_node, {}).items():
            body = updated_node.body.visit(Filled({name: cst.Name(fresh)}))
            updated_node = updated_node.with_changes(body=body)
        return updated_node


def _by_function(module: cst.Module) -> dict[Any, dict[str, list[str]]]:
    """What the file's own lines hold, under None, and what each function does."""
    chains = chain_names(module)
    plain = [s for s in module.body if not isinstance(s, _SCOPES)]
    held: dict[Any, dict[str, list[str]]]
    held = {None: held_parameters(cst.Module(plain), chains)}
    return held | {f: held_parameters(cst.Module([f]), chains) for f in _outermost(module)}


def _outermost(node: Any) -> Any:
    """Functions and methods that stand in no other function."""
    for child in children(node):
        if isinstance(child, cst.FunctionDef):
            yield child
        elif not isinstance(child, cst.BaseExpression):
            yield from _outermost(child)


def _given(function: Any, name: str) -> bool:
    """Whether a function, or one within, takes a name from its caller or from around it."""
    for node in walk(function):
        if isinstance(node, cst.Param) and node.name.value == name:
            return True
        if isinstance(node, _OUTSIDE) and any(item.name.value == name for item in node.names):
            return True
    return False
