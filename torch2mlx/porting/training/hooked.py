"""What forward hooks keep: names that calls of modules write, though nothing at a call says so.

features = {}
net.layer.register_forward_hook(lambda module, given, out: features.update(layer=out))
net(x)                                      # writes features
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner, loads, stores
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import of_kinds, walk
from torch2mlx.porting.types.known import Types

#: Methods of modules that take a function to be called beside the forward.
_REGISTER = ("register_forward_hook", "register_forward_pre_hook")
#: What a call of one of these runs no forward, whatever it is given.
_PLAIN = ("torch.", "numpy.", "math.", "random.")


def watch(scan: Scanner, module: cst.Module, types: Types) -> None:
    """Has the scanner tell of what hooks write, where a statement may call a module."""
    written = sorted(_written(module))
    if written:
        scan.beside = _beside(written, scan, types)


def _beside(written: list[str], scan: Scanner, types: Types) -> Callable[[Any], list[str]]:
    def may_call(node: Any) -> bool:
        return any(_may_run(call, types) for call in scan.calls(node))

    return lambda node: written if may_call(node) else []


def _may_run(call: cst.Call, types: Types) -> bool:
    kind = types.of(call.func)
    if kind.kind in ("module", "function"):
        return True
    named = types.names.of(call.func).startswith(_PLAIN)
    return kind.kind == "unknown" and not named and isinstance(call.func, cst.Name)


def _written(module: cst.Module) -> set[str]:
    """Names that the functions write which a file registers as hooks."""
    functions: dict[str, list[Any]] = {}
    for node in of_kinds(module, cst.FunctionDef):
        functions.setdefault(node.name.value, []).append(node)
    found: set[str] = set()
    for call in of_kinds(module, cst.Call):
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in _REGISTER:
            for argument in call.args:
                found |= set(_by(argument.value, functions))
    attributes = {name.rpartition(".")[2] for name in found if name.startswith("self.")}
    read = (name for name in loads(module) if name.rpartition(".")[2] in attributes)
    return found | {name for name in read if "." in name}


def _by(given: Any, functions: dict[str, list[Any]]) -> Iterator[str]:
    """Names that a hook writes, whatever makes it."""
    for part in walk(given):
        if isinstance(part, cst.Lambda):
            yield from stores(part.body)
        for node in functions.get(dotted(part).rpartition(".")[2], ()):
            yield from (n for n in stores(node) if n != node.name.value)
            inner = (n for n in walk(node) if isinstance(n, cst.FunctionDef))
            yield from (n for f in inner for n in stores(f.body) if n.startswith("self."))
