"""Functions of torch on images: which work channels last, and where their axes are then."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout import tables
from torch2mlx.porting.layout.expressions import is_number, read_pair
from torch2mlx.porting.layout.reading import (
    Reading,
    all_plain,
    moved_axis,
    number,
    read,
    read_last,
    read_plain,
)
from torch2mlx.porting.layout.values import PLAIN, Value
from torch2mlx.porting.scopes.import_table import dotted

#: The place of the axis in a function's arguments, the array being the first.
_AXIS_AT = {"split": 2, "chunk": 2}


def called(reading: Reading, name: str, node: cst.Call, first: Any, rest: list[Any]) -> Value:
    if name in tables.JOINING:
        return _joined(reading, first, rest)
    if name in tables.PAIRWISE and rest:
        all_plain(reading, rest[1:])
        return read_pair(reading, first, rest[0].value)
    if name == "where" and len(rest) == 2:
        return _where(reading, first, rest[0].value, rest[1].value)
    if name in tables.FUNCTIONS:
        return _spatial(reading, name, node, first, rest)
    if name == "pad" and rest:
        return _pad(reading, node, first, rest)
    found = read(reading, first)
    if found.last:
        answer = given_last(reading, name, node, found, rest)
        if answer is not None:
            reading.plan.wraps.pop(first, None)
            return answer
    elif name in tables.ALIKE_FUNCTIONS and found.kind == "plain":
        all_plain(reading, rest)
        return found
    read_plain(reading, first)
    all_plain(reading, rest)
    count = 1 + sum(a.keyword is None for a in rest)
    return Value(rank=count) if name in tables.SHAPED and count > 2 else PLAIN


def given_last(
    reading: Reading, name: str, node: Any, found: Value, rest: list[Any]
) -> Value | None:
    """What a function answers to an array with its channels last; None when that is not known.
    Shared by functions and methods."""
    if name in tables.ALIKE_FUNCTIONS:
        others = [a for a in rest if not _beside(reading, a.value, found)]
        if name in tables.BOUNDED and not all(is_number(reading, a.value) for a in others):
            return None  # bounds may be arrays
        all_plain(reading, rest if name not in tables.BOUNDED else others)
        return found
    if name in tables.REDUCTIONS:
        given = sum(a.keyword is None for a in rest)
        return None if name in ("std", "var") and given > 1 else _reduced(reading, found, rest)
    if name in tables.ALONG or name in tables.PARTING:
        at = _AXIS_AT.get(name, 1) - 1
        axis = _argument(rest, at, ("dim", "axis"))
        if axis is None and name in tables.ALONG:
            return None
        if axis is not None and not moves_axis(reading, axis, found.rank):
            return None
        all_plain(reading, (a for a in rest if a.value is not axis))
        return Value("list", (found,)) if name in tables.PARTING else found
    return None


def _beside(reading: Reading, node: Any, image: Value) -> bool:
    """Whether an argument is an image too, with its channels where the first has them."""
    found = read(reading, node)
    return found.last and (found.rank == image.rank or not found.rank or not image.rank)


def moves_axis(reading: Reading, node: Any, rank: int) -> bool:
    """Says where a written axis is; False when that is not known."""
    at = number(node)
    moved = None if at is None else moved_axis(at, rank)
    if moved is None:
        return False
    if moved != at:
        reading.plan.axes[node] = moved
    return True


def _reduced(reading: Reading, found: Value, rest: list[Any]) -> Value | None:
    axes = _argument(rest, 0, ("dim", "axis"))
    keeps = _argument(rest, 1, ("keepdim", "keepdims"))
    if axes is None:
        all_plain(reading, rest)
        return PLAIN if not rest else None
    several = isinstance(axes, (cst.Tuple, cst.List))
    nodes = [e.value for e in axes.elements] if several else [axes]
    places = [number(n) for n in nodes]
    whole = {p + found.rank if p < 0 else p for p in places if p is not None}
    if None in places or 0 in whole or not found.rank:
        return None
    if not all(moves_axis(reading, n, found.rank) for n in nodes):
        return None
    for argument in rest:
        if argument.value is not axes:
            read_plain(reading, argument.value)
    if keeps is not None and dotted(keeps) == "True":
        return found
    left = found.rank - len(whole)
    return PLAIN if 1 in whole or left <= 2 else Value("last", rank=left)


def _joined(reading: Reading, first: Any, rest: list[Any]) -> Value:
    parts = first.elements if isinstance(first, (cst.List, cst.Tuple)) else None
    axis = _argument(rest, 0, ("dim", "axis"))
    found = read(reading, first)
    values = [read(reading, p.value) for p in parts] if parts is not None else list(found.items)
    if found.kind in ("list", "tuple", "plain") and any(v.last for v in values):
        rank = max(v.rank for v in values)
        plain = any(v.kind not in ("last", "plain") for v in values)
        alone = parts is None and not all(v.last for v in values)
        if not plain and not alone and (axis is None or moves_axis(reading, axis, rank)):
            for part in parts or ():
                read_last(reading, part.value, rank)
            reading.plan.wraps.pop(first, None)
            return Value("last", rank=rank)
    if parts is not None:
        for part in parts:
            read_plain(reading, part.value)
    else:
        read_plain(reading, first)
    all_plain(reading, rest)
    if all(v.kind == "plain" for v in values):
        return Value(origins=frozenset().union(*(v.origins for v in values)))
    return PLAIN


def _where(reading: Reading, *nodes: Any) -> Value:
    found = [read(reading, n) for n in nodes]
    images = [v for v in found if v.last]
    if images and all(v.last or is_number(reading, n) for v, n in zip(found, nodes, strict=True)):
        for value, node in zip(found, nodes, strict=True):
            if not value.last:
                read_plain(reading, node)
        return images[0]
    for node in nodes:
        read_plain(reading, node)
    return PLAIN


def _spatial(reading: Reading, name: str, node: cst.Call, first: Any, rest: list[Any]) -> Value:
    """A function of images."""
    found, axes = read(reading, first), tables.axes_of(name)
    places = any(a.keyword is not None and a.keyword.value == "return_indices" for a in rest)
    always = bool(axes) or name == "interpolate"
    images = found.last or (always and found.kind == "plain" and not name.startswith("dropout"))
    all_plain(reading, rest)
    if not images or places:
        read_plain(reading, first)
        reading.plan.sites.discard(node)
        return found if found.origins and not axes else PLAIN
    rank = axes + 2 if axes and not name.startswith("dropout") else found.rank
    read_last(reading, first, rank)
    reading.plan.sites.add(node)
    return Value("last", rank=rank)


def _pad(reading: Reading, node: cst.Call, first: Any, rest: list[Any]) -> Value:
    found, widths = read(reading, first), rest[0].value
    all_plain(reading, rest)
    written = isinstance(widths, (cst.Tuple, cst.List)) and rest[0].keyword is None
    starred = written and any(isinstance(e, cst.StarredElement) for e in widths.elements)
    inside = written and len(widths.elements) <= 2 * (found.rank - 2)
    if found.last and inside and not starred:
        reading.plan.wraps.pop(first, None)
        reading.plan.sites.add(node)
        return found
    reading.plan.sites.discard(node)
    read_plain(reading, first)
    return PLAIN


def _argument(rest: list[Any], place: int, names: tuple[str, ...]) -> Any:
    """An argument by place or by name."""
    for argument in rest:
        if argument.keyword is not None and argument.keyword.value in names:
            return argument.value
    given = [a.value for a in rest if a.keyword is None and not a.star]
    return given[place] if place < len(given) else None
