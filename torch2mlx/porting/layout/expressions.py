"""Expressions of a forward: what each answers, and which of its parts have to be turned."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.binding import bind_item
from torch2mlx.porting.layout.reading import (
    Reading,
    module_of,
    moved_axis,
    number,
    read,
    read_beside,
    read_last,
    read_plain,
    read_test,
    reads,
    unfollowed,
)
from torch2mlx.porting.layout.values import NOTHING, PLAIN, Immovable, Value
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.kinds import ELSEWHERE

_NUMBERS = ("int", "float", "bool")


@reads(cst.Name)
def _name(reading: Reading, node: cst.Name) -> Value:
    if node.value == "None":
        return NOTHING
    return reading.env.get(node.value, PLAIN)


@reads(cst.Attribute)
def _attribute(reading: Reading, node: cst.Attribute) -> Value:
    if module_of(reading, node.value) is not None:  # its weight
        return PLAIN
    owner = read(reading, node.value)
    if owner.last and node.attr.value in ("real", "imag"):
        return owner
    if not owner.last or node.attr.value not in ("dtype", "device", "ndim", *ELSEWHERE):
        read_plain(reading, node.value)
    return PLAIN


@reads(cst.Tuple)
def _tuple(reading: Reading, node: Any) -> Value:
    items = tuple(read(reading, e.value) for e in node.elements)
    if any(isinstance(e, cst.StarredElement) for e in node.elements):
        for element in node.elements:
            read_plain(reading, element.value)
        return PLAIN
    return Value("tuple", items) if any(i.holds for i in items) else PLAIN


@reads(cst.List)
def _list(reading: Reading, node: cst.List) -> Value:
    found = [read(reading, e.value) for e in node.elements]
    if any(isinstance(e, cst.StarredElement) for e in node.elements):
        for element in node.elements:
            read_plain(reading, element.value)
        return PLAIN
    if any(v.last for v in found) and all(v.kind in ("last", "plain") for v in found):
        rank = max(v.rank for v in found)
        kinds = [read_last(reading, e.value, rank) for e in node.elements]
        return Value("list", (kinds[0],))
    for element in node.elements:
        read_plain(reading, element.value)
    if not found:
        return Value("list", (NOTHING,))
    if all(v.kind == "plain" for v in found):
        origins = frozenset().union(*(v.origins for v in found))
        return Value("list", (Value(origins=origins),))
    return PLAIN


@reads(cst.Lambda, cst.SetComp, cst.DictComp, cst.GeneratorExp)
def _lambda(reading: Reading, node: Any) -> Value:
    opaque(reading, node)
    return PLAIN


def opaque(reading: Reading, node: Any) -> None:
    """What is read later, or more than once, may not hold what changes its layout."""
    for part in walk(node):
        if isinstance(part, cst.Name) and reading.env.get(part.value, PLAIN).holds:
            raise Immovable
        if isinstance(part, cst.Attribute) and module_of(reading, part) is not None:
            raise Immovable


@reads(cst.ListComp)
def _list_comp(reading: Reading, node: cst.ListComp) -> Value:
    before = (dict(reading.env), dict(reading.modules))
    part: cst.CompFor | None = node.for_in
    while part is not None:
        reading.seen = {}
        bind_item(reading, part.target, part.iter)
        for condition in part.ifs:
            read_plain(reading, condition.test)
        part = part.inner_for_in
    found = read(reading, node.elt)
    if found.kind not in ("last", "plain"):
        raise Immovable
    if not found.last:
        read_plain(reading, node.elt)
    reading.env, reading.modules = before
    reading.seen = {}
    return Value("list", (found,)) if found.last else PLAIN


@reads(cst.IfExp)
def _if_exp(reading: Reading, node: cst.IfExp) -> Value:
    read_test(reading, node.test)
    one, other = read(reading, node.body), read(reading, node.orelse)
    if one.last and other.last:
        return one
    if one.last or other.last:
        rest = node.orelse if one.last else node.body
        if reading.file.types.of(rest).tensor:
            read_last(reading, rest)
            return one if one.last else other
    read_plain(reading, node.body)
    read_plain(reading, node.orelse)
    return PLAIN


@reads(cst.UnaryOperation)
def _unary_operation(reading: Reading, node: cst.UnaryOperation) -> Value:
    if isinstance(node.operator, cst.Not):
        read_plain(reading, node.expression)
        return PLAIN
    return read(reading, node.expression)


@reads(cst.BinaryOperation)
def _binary_operation(reading: Reading, node: cst.BinaryOperation) -> Value:
    if isinstance(node.operator, cst.MatrixMultiply):
        read_plain(reading, node.left)
        read_plain(reading, node.right)
        return PLAIN
    return read_pair(reading, node.left, node.right)


@reads(cst.Comparison)
def _comparison(reading: Reading, node: cst.Comparison) -> Value:
    kinds: tuple[type[cst.CSTNode], ...] = (
        cst.LessThan,
        cst.LessThanEqual,
        cst.GreaterThan,
        cst.GreaterThanEqual,
    )
    kinds += (cst.Equal, cst.NotEqual)
    if len(node.comparisons) == 1:
        one = node.comparisons[0]
        if isinstance(one.operator, kinds):
            return read_pair(reading, node.left, one.comparator)
        if isinstance(one.operator, (cst.Is, cst.IsNot)):  # x is None
            if module_of(reading, node.left) is None:
                read(reading, node.left)
            return PLAIN
    read_plain(reading, node.left)
    for part in node.comparisons:
        read_plain(reading, part.comparator)
    return PLAIN


def read_pair(reading: Reading, left: Any, right: Any) -> Value:
    """Two arrays, or an array and a number, item by item."""
    one, other = read(reading, left), read(reading, right)
    if NOTHING in (one, other):  # of a name that another way has something in
        return other if one is NOTHING else one
    if not one.last and not other.last:
        read_plain(reading, left)
        read_plain(reading, right)
        both = all(v.origins or is_number(reading, n) for v, n in ((one, left), (other, right)))
        origins = one.origins | other.origins if both else frozenset()
        return Value(rank=max(one.rank, other.rank), origins=origins)
    if one.last and other.last and (one.rank == other.rank or not one.rank or not other.rank):
        return Value("last", rank=max(one.rank, other.rank))
    known, rest, node = (one, other, right) if one.last else (other, one, left)
    if is_number(reading, node):
        read_plain(reading, node)
        return known
    if rest.kind == "plain" and known.rank:
        read_beside(reading, node, known.rank)
        return known
    read_plain(reading, left)
    read_plain(reading, right)
    return PLAIN


def is_number(reading: Reading, node: Any) -> bool:
    """Whether an expression surely is a number."""
    if isinstance(node, (cst.Integer, cst.Float)):
        return True
    if isinstance(node, cst.UnaryOperation):
        return is_number(reading, node.expression)
    return reading.file.types.of(node).kind in _NUMBERS


@reads(cst.Subscript)
def _subscript(reading: Reading, node: cst.Subscript) -> Value:
    owner = read(reading, node.value)
    places = [e.slice for e in node.slice]
    if owner.last and isinstance(node.value, cst.Attribute):
        owner = PLAIN
    if owner.kind == "list" and len(places) == 1:
        unfollowed(reading, node.slice[0].slice)
        return owner if isinstance(places[0], cst.Slice) else owner.items[0]
    at = number(places[0].value) if isinstance(places[0], cst.Index) else None
    known = owner.kind == "tuple" and len(places) == 1 and at is not None
    if known and at is not None and -len(owner.items) <= at < len(owner.items):
        return owner.items[at]
    if len(places) == 1 and _shape_item(reading, node, places[0], at):
        return PLAIN
    read_plain(reading, node.value)
    for element in node.slice:
        unfollowed(reading, element.slice)
    return Value(rank=len(places)) if _adds_axes(places) else PLAIN


def asked_for_shape(reading: Reading, node: Any) -> Value | None:
    """The array that `x.shape` or `x.size()` asks, where its channels are last."""
    asked = node.func if isinstance(node, cst.Call) and not node.args else node
    wanted = "size" if isinstance(node, cst.Call) else "shape"
    if not isinstance(asked, cst.Attribute) or asked.attr.value != wanted:
        return None
    found = read(reading, asked.value)
    return found if found.last else None


def unturned(reading: Reading, node: Any) -> None:
    """Leaves the array that is asked for its shape as it is."""
    asked: Any = node.func if isinstance(node, cst.Call) else node
    reading.plan.wraps.pop(asked.value, None)


def _shape_item(reading: Reading, node: cst.Subscript, place: Any, at: int | None) -> bool:
    """x.shape[1], x.shape[2:]: what they are in MLX's layout."""
    found = asked_for_shape(reading, node.value)
    if found is None:
        return False
    if isinstance(place, cst.Slice):
        start = number(place.lower) if place.lower is not None else None
        whole = place.upper is None and place.step is None
        if not whole or not found.rank or start not in (2, 2 - found.rank):
            return False
        reading.plan.spatial.add(node)
    else:
        moved = None if at is None else moved_axis(at, found.rank)
        if moved is None:
            return False
        if moved != at:
            reading.plan.axes[place.value] = moved
    unturned(reading, node.value)
    return True


def _adds_axes(places: list[Any]) -> bool:
    """x[:, :, None, None], the form of what is added to every place of an image."""
    new = [
        isinstance(p, cst.Index) and isinstance(p.value, cst.Name) and p.value.value == "None"
        for p in places
    ]
    whole = [isinstance(p, cst.Slice) and p.lower is None and p.upper is None for p in places]
    return any(new) and all(a or b for a, b in zip(new, whole, strict=True))
