"""Optimizers that a function or an object is given: which of its modules they train.

def train(encoder, decoder, first, second):         first trains encoder, second decoder
    ...
train(enc, dec, Adam(enc.parameters()), opt)        where all calls of the file say so
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import calls, of_kinds, walk
from torch2mlx.porting.training.optimizers import apart

#: How many functions an optimizer is followed through.
_DEEP = 3
Key = tuple[str, str]  # a function (of a class its constructor), a parameter


def passed_optimizers(
    module: cst.Module, trained: Mapping[str, list[str]], made: Callable[[Any], list[str]]
) -> dict[Key, list[str] | None]:
    """Modules, as a function names them, of each parameter that is an optimizer; None where calls
    do not say it, or not all the same. `made`: the modules of an optimizer that is made in a call.
    """

    def modules_of(value: Any, around: str) -> list[str]:
        name = dotted(value)
        return known.get((around, name)) or trained.get(name) or made(value)

    functions = _functions(module)
    known: dict[Key, list[str] | None] = {}
    sites = list(_sites(module, functions))
    for _ in range(_DEEP):
        found: dict[Key, list[list[str] | None]] = {}
        for around, call, name in sites:
            for parameter, modules in _given(around, call, functions[name], modules_of):
                found.setdefault((name, parameter), []).append(modules)
        told = {key: _agreed(all_) for key, all_ in found.items() if any(m for m in all_)}
        if told == known:
            break
        known = told
    return known


def held_optimizers(
    module: cst.Module, passed: Mapping[Key, list[str] | None]
) -> dict[str, list[str]]:
    """`self.optimizer` -> `self.model`, for what constructors are given and keep."""
    found: dict[str, list[str]] = {}
    for node in of_kinds(module, cst.ClassDef):
        init = _constructor(node)
        kept = dict(_kept(init)) if init is not None else {}
        for parameter, attribute in kept.items():
            modules = passed.get((node.name.value, parameter)) or []
            own = [_renamed(m, kept) for m in modules]
            if own and all(own):
                found.setdefault(attribute, [m for m in own if m])
    return found


def _kept(init: Any) -> Iterator[tuple[str, str]]:
    for part in walk(init):
        if isinstance(part, cst.Assign) and len(part.targets) == 1:
            for target, value in apart(part.targets[0].target, part.value):
                if dotted(target).startswith("self.") and isinstance(value, cst.Name):
                    yield value.value, dotted(target)


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    root, dot, rest = name.partition(".")
    return names[root] + dot + rest if root in names else None


def _functions(module: cst.Module) -> dict[str, list[cst.Param]]:
    """Parameters by name, of functions and constructors of which there is one of that name."""
    found: dict[str, list[Any]] = {}
    for node in of_kinds(module, cst.FunctionDef):
        found.setdefault(node.name.value, []).append(node)
    for node in of_kinds(module, cst.ClassDef):
        init = _constructor(node)
        if init is not None:
            found.setdefault(node.name.value, []).append(init)
    return {
        name: [p for p in (*nodes[0].params.params, *nodes[0].params.kwonly_params)]
        for name, nodes in found.items()
        if len(nodes) == 1 and name != "__init__"
    }


def _constructor(node: cst.ClassDef) -> Any:
    inner = node.body.body
    made = (f for f in inner if isinstance(f, cst.FunctionDef) and f.name.value == "__init__")
    return next(made, None)


def _sites(module: cst.Module, functions: Mapping[str, Any]) -> Iterator[tuple[str, cst.Call, str]]:
    """(function around, call, name of what is called), of what the file defines."""
    around: dict[Any, str] = {}
    for node in of_kinds(module, cst.FunctionDef):  # from the outside in: the innermost stays
        around.update({call: node.name.value for call in calls(node)})
    for call in of_kinds(module, cst.Call):
        name = dotted(call.func).rpartition(".")[2]
        if name in functions:
            yield around.get(call, ""), call, name


def _given(
    around: str,
    call: cst.Call,
    parameters: list[cst.Param],
    modules_of: Callable[[Any, str], list[str]],
) -> Iterator[tuple[str, list[str] | None]]:
    """Each parameter of a call, and the modules that what it is given trains; None if unknown."""
    given = _bound(call, [p.name.value for p in parameters])
    bound = {name: text for name, value in given.items() if (text := dotted(value))}
    for parameter, value in given.items():
        modules = modules_of(value, around)
        if not modules:
            yield parameter, None
            continue
        same = isinstance(call.func, cst.Attribute) and dotted(call.func.value) == "self"
        seen = [_inside(m, bound, not around, same) for m in modules]
        yield parameter, [m for m in seen if m] if all(seen) else None


def _bound(call: cst.Call, names: list[str]) -> dict[str, Any]:
    """What a call gives its parameters; what is behind a star is left out."""
    names = [n for n in names if n not in ("self", "cls")]
    bound: dict[str, Any] = {}
    place = 0
    for argument in call.args:
        if argument.keyword is not None:
            bound[argument.keyword.value] = argument.value
        elif argument.star or place >= len(names):
            break
        else:
            bound[names[place]] = argument.value
            place += 1
    return bound


def _inside(module: str, bound: Mapping[str, str], of_file: bool, same: bool) -> str | None:
    """A module as the called function names it: a parameter, what one holds, a name of the file or
    of the same object."""
    for parameter, value in bound.items():
        if module == value or module.startswith(f"{value}."):
            return parameter + module[len(value) :]
    root = module.partition(".")[0]
    reaches = same if root == "self" else of_file and root not in bound
    return module if reaches else None


def _agreed(found: list[list[str] | None]) -> list[str] | None:
    return found[0] if all(one == found[0] for one in found) else None
