"""Running statistics that a call of `F.batch_norm` moves in place: they must be the module's own
arrays, since MLX has no views that would reach these."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.render import Argument
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.views import Views

#: Functions that move what they are given -> the places of the two statistics and of the switch.
_MOVING = {
    "torch.nn.functional.batch_norm": (1, 2, 5),
    "torch.batch_norm": (3, 4, 5),
    "torch.nn.functional.instance_norm": (1, 2, 5),
    "torch.instance_norm": (3, 4, 5),
}
_NAMES = ("running_mean", "running_var")
_SWITCHES = ("training", "use_input_stats")
_WHY = "it moves `{0}` through a view, which MLX's arrays have not: give it `{0}` itself"
#: What is the whole tensor without its gradient.
_ITSELF = ("detach", "data")


def moved(
    at: Place, full: str, given: list[Argument], original: cst.Call
) -> tuple[list[Argument], str]:
    """The arguments with the statistics themselves in the place of what is detached from them, and
    why they cannot be moved, which is noted; "" where they can."""
    if full not in _MOVING or _stays(original, full):
        return given, ""
    found, why = list(given), ""
    for i, argument in enumerate(original.args):
        if not _is_statistic(argument, i, full):
            continue
        inner = _attached(argument.value)
        if inner is not argument.value:
            found[i] = dataclasses.replace(given[i], text=at.text(inner))
        why = why or _unmovable(at, inner)
    if why:
        at.refuse(original, why, full, Code.UNCLEAR)
    return found, why


def _unmovable(at: Place, node: Any) -> str:
    """Why not all is moved that torch moves; what is new is read by nobody."""
    for each in (node, *_bound(at, node)):
        viewed = _viewed(at, each)
        if viewed:
            return _WHY.format(viewed)
    name, _ = at.file.sharing.held(node)
    return at.file.sharing.conflict(at.current, name) if name else ""


def _viewed(at: Place, node: Any) -> str:
    """The dotted name that an expression is a view of, whatever it holds; "" of others."""
    reader, inner, taken = Views(at.file.names, at.type_of), node, False
    while inner is not None:
        node = inner
        inner = reader.step(node)[1]
        taken = taken or inner is not None
    return dotted(node) if taken else ""


def _bound(at: Place, node: Any) -> Iterator[Any]:
    """What a plain name is given anywhere in the function around, or in the file."""
    if not isinstance(node, cst.Name):
        return
    around = at.bodies[-1].body if at.bodies else at.file.sharing.module
    for made in walk(around):
        for target in made.targets if isinstance(made, cst.Assign) else ():
            yield from _given(target.target, made.value, node.value)


def _given(target: Any, value: Any, name: str) -> Iterator[Any]:
    if isinstance(target, cst.Name) and target.value == name:
        yield value
    kinds = (cst.Tuple, cst.List)
    if isinstance(target, kinds) and isinstance(value, kinds):
        for one, other in zip(target.elements, value.elements, strict=False):
            yield from _given(one.value, other.value, name)


def _is_statistic(argument: cst.Arg, place: int, full: str) -> bool:
    if argument.keyword is not None:
        return argument.keyword.value in _NAMES
    return place in _MOVING[full][:2]


def _stays(call: cst.Call, full: str) -> bool:
    """Whether a call surely moves nothing."""
    for i, argument in enumerate(call.args):
        named = argument.keyword is not None and argument.keyword.value in _SWITCHES
        if named or (argument.keyword is None and i == _MOVING[full][2]):
            return code(argument.value) == "False"
    return full == "torch.nn.functional.batch_norm" and not any(a.star for a in call.args)


def _attached(node: Any) -> Any:
    """The tensor that `.detach()` and `.data` are taken of."""
    while True:
        held = node.func if isinstance(node, cst.Call) and not node.args else node
        if not isinstance(held, cst.Attribute) or held.attr.value not in _ITSELF:
            return node
        if (held.attr.value == "data") != (held is node):
            return node
        node = held.value
