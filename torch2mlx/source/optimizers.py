"""Which modules an optimizer trains: read off its constructor, wherever in the file that is."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.source.names import Names, dotted
from torch2mlx.source.walk import calls, walk


def parameters_of(node: Any) -> list[str]:
    """Modules whose `.parameters()` stand in an expression, in order."""
    found: dict[str, None] = {}
    for call in calls(node):
        func = call.func
        if isinstance(func, cst.Attribute) and func.attr.value in (
            "parameters",
            "named_parameters",
        ):
            found.setdefault(dotted(func.value), None)
    return [name for name in found if name]


def trained_modules(module: cst.Module, names: Names) -> dict[str, list[str]]:
    """Optimizer -> modules, both as the source names them."""
    trained: dict[str, list[str]] = {}
    for node in walk(module):
        if not isinstance(node, cst.Assign) or len(node.targets) != 1:
            continue
        value = node.value
        full = names.of(value.func) if isinstance(value, cst.Call) and value.args else ""
        if full.startswith("torch.optim.") and "lr_scheduler" not in full:
            name = dotted(node.targets[0].target)
            modules = parameters_of(value.args[0].value)  # type: ignore[union-attr]
            if name and modules:
                trained.setdefault(name, modules)
    return trained
