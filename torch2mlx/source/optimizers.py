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
    makers = _makers(module, names)
    for node in walk(module):
        if not isinstance(node, cst.Assign) or len(node.targets) != 1:
            continue
        target = dotted(node.targets[0].target)
        if target and isinstance(node.value, cst.Call):
            modules = _constructed(node.value, names) or _made(node.value, makers)
            if modules:
                trained.setdefault(target, modules)
    return trained


def _constructed(call: cst.Call, names: Names) -> list[str]:
    """Modules of a call of torch.optim."""
    full = names.of(call.func)
    if not full.startswith("torch.optim.") or "lr_scheduler" in full or not call.args:
        return []
    return parameters_of(call.args[0].value)


def _makers(module: cst.Module, names: Names) -> dict[str, tuple[list[str], list[str]]]:
    """Functions that answer an optimizer: their arguments, and the modules that it trains."""
    found = {}
    for node in walk(module):
        if isinstance(node, cst.FunctionDef):
            for inner in walk(node):
                if isinstance(inner, cst.Return) and isinstance(inner.value, cst.Call):
                    modules = _constructed(inner.value, names)
                    if modules:
                        arguments = [p.name.value for p in node.params.params]
                        found[node.name.value] = (arguments, modules)
    return found


def _made(call: cst.Call, makers: dict[str, tuple[list[str], list[str]]]) -> list[str]:
    """Modules of an optimizer that a function of the file answers."""
    name = dotted(call.func).rpartition(".")[2]
    arguments, modules = makers.get(name, ([], []))
    arguments = [a for a in arguments if a != "self"]
    given = dict(zip(arguments, (dotted(a.value) for a in call.args), strict=False))
    return [given.get(module) or module for module in modules]
