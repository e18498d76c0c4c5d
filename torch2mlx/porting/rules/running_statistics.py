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
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.statistics import MOVING, is_statistic, stays
from torch2mlx.porting.types.views import Views, attached

_WHY = "it moves `{0}` through a view, which MLX's arrays have not: give it `{0}` itself"


def moved(
    at: Place, full: str, given: list[Argument], original: cst.Call
) -> tuple[list[Argument], str]:
    """The arguments with the statistics themselves in the place of what is detached from them, and
    why they cannot be moved, which is noted; "" where they can."""
    if full not in MOVING or stays(original.args, full):
        return given, ""
    found, why = list(given), ""
    for i, argument in enumerate(original.args):
        if not is_statistic(argument, i, full):
            continue
        inner = attached(argument.value)
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
