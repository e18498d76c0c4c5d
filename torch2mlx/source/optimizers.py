"""Which modules an optimizer trains: read off its constructor, wherever in the file that is."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.source.names import Names, dotted


class _Finder(cst.CSTVisitor):
    def __init__(self, names: Names) -> None:
        self._names = names
        self.trained: dict[str, list[str]] = {}

    def visit_Assign(self, node: cst.Assign) -> None:
        value = node.value
        if not isinstance(value, cst.Call) or len(node.targets) != 1:
            return
        full = self._names.of(value.func)
        if full.startswith("torch.optim.") and "lr_scheduler" not in full and value.args:
            name = dotted(node.targets[0].target)
            modules = parameters_of(value.args[0].value)
            if name and modules:
                self.trained.setdefault(name, modules)


class _Parameters(cst.CSTVisitor):
    def __init__(self) -> None:
        self.modules: list[str] = []

    def visit_Call(self, node: cst.Call) -> None:
        if isinstance(node.func, cst.Attribute) and node.func.attr.value in (
            "parameters",
            "named_parameters",
        ):
            name = dotted(node.func.value)
            if name and name not in self.modules:
                self.modules.append(name)


def parameters_of(node: Any) -> list[str]:
    """Modules whose `.parameters()` stand in an expression, in order."""
    finder = _Parameters()
    node.visit(finder)
    return finder.modules


def trained_modules(module: cst.Module, names: Names) -> dict[str, list[str]]:
    """Optimizer -> modules, both as the source names them."""
    finder = _Finder(names)
    module.visit(finder)
    return finder.trained
