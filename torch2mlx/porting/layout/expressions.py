"""Expressions of a forward: what each answers, and which of its parts have to be turned."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.reading import Reader, moved_axis, number
from torch2mlx.porting.layout.values import NOTHING, PLAIN, Immovable, Value
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.kinds import ELSEWHERE

_NUMBERS = ("int", "float", "bool")


class Expressions(Reader):
    """Reads expressions other than calls."""

    def _of_Name(self, node: cst.Name) -> Value:
        if node.value == "None":
            return NOTHING
        return self.env.get(node.value, PLAIN)

    def _of_Attribute(self, node: cst.Attribute) -> Value:
        if self.module(node.value) is not None:  # its weight
            return PLAIN
        owner = self.read(node.value)
        if owner.last and node.attr.value in ("real", "imag"):
            return owner
        if not owner.last or node.attr.value not in ("dtype", "device", "ndim", *ELSEWHERE):
            self.plain(node.value)
        return PLAIN

    def _of_Tuple(self, node: Any) -> Value:
        items = tuple(self.read(e.value) for e in node.elements)
        if any(isinstance(e, cst.StarredElement) for e in node.elements):
            for element in node.elements:
                self.plain(element.value)
            return PLAIN
        return Value("tuple", items) if any(i.holds for i in items) else PLAIN

    def _of_List(self, node: cst.List) -> Value:
        found = [self.read(e.value) for e in node.elements]
        if any(isinstance(e, cst.StarredElement) for e in node.elements):
            for element in node.elements:
                self.plain(element.value)
            return PLAIN
        if any(v.last for v in found) and all(v.kind in ("last", "plain") for v in found):
            rank = max(v.rank for v in found)
            kinds = [self.last(e.value, rank) for e in node.elements]
            return Value("list", (kinds[0],))
        for element in node.elements:
            self.plain(element.value)
        if not found:
            return Value("list", (NOTHING,))
        if all(v.kind == "plain" for v in found):
            origins = frozenset().union(*(v.origins for v in found))
            return Value("list", (Value(origins=origins),))
        return PLAIN

    def _of_Lambda(self, node: Any) -> Value:
        self._opaque(node)
        return PLAIN

    _of_SetComp = _of_DictComp = _of_GeneratorExp = _of_Lambda

    def _opaque(self, node: Any) -> None:
        """What is read later, or more than once, may not hold what changes its layout."""
        for part in walk(node):
            if isinstance(part, cst.Name) and self.env.get(part.value, PLAIN).holds:
                raise Immovable
            if isinstance(part, cst.Attribute) and self.module(part) is not None:
                raise Immovable

    def _of_ListComp(self, node: cst.ListComp) -> Value:
        part, before = node.for_in, (dict(self.env), dict(self.modules))
        while part is not None:
            self.seen = {}
            self.bind_item(part.target, part.iter)
            for condition in part.ifs:
                self.plain(condition.test)
            part = part.inner_for_in
        found = self.read(node.elt)
        if found.kind not in ("last", "plain"):
            raise Immovable
        if not found.last:
            self.plain(node.elt)
        self.env, self.modules = before
        self.seen = {}
        return Value("list", (found,)) if found.last else PLAIN

    def _of_IfExp(self, node: cst.IfExp) -> Value:
        self.test(node.test)
        one, other = self.read(node.body), self.read(node.orelse)
        if one.last and other.last:
            return one
        if one.last or other.last:
            rest = node.orelse if one.last else node.body
            if self.inference.of(rest).tensor:
                self.last(rest)
                return one if one.last else other
        self.plain(node.body)
        self.plain(node.orelse)
        return PLAIN

    def _of_UnaryOperation(self, node: cst.UnaryOperation) -> Value:
        if isinstance(node.operator, cst.Not):
            self.plain(node.expression)
            return PLAIN
        return self.read(node.expression)

    def _of_BinaryOperation(self, node: cst.BinaryOperation) -> Value:
        if isinstance(node.operator, cst.MatrixMultiply):
            self.plain(node.left)
            self.plain(node.right)
            return PLAIN
        return self.pair(node.left, node.right)

    def _of_Comparison(self, node: cst.Comparison) -> Value:
        kinds = (cst.LessThan, cst.LessThanEqual, cst.GreaterThan, cst.GreaterThanEqual)
        kinds += (cst.Equal, cst.NotEqual)
        if len(node.comparisons) == 1:
            one = node.comparisons[0]
            if isinstance(one.operator, kinds):
                return self.pair(node.left, one.comparator)
            if isinstance(one.operator, (cst.Is, cst.IsNot)):  # x is None
                if self.module(node.left) is None:
                    self.read(node.left)
                return PLAIN
        self.plain(node.left)
        for part in node.comparisons:
            self.plain(part.comparator)
        return PLAIN

    def pair(self, left: Any, right: Any) -> Value:
        """Two arrays, or an array and a number, item by item."""
        one, other = self.read(left), self.read(right)
        if NOTHING in (one, other):  # of a name that another way has something in
            return other if one is NOTHING else one
        if not one.last and not other.last:
            self.plain(left)
            self.plain(right)
            both = all(v.origins or self.scalar(n) for v, n in ((one, left), (other, right)))
            origins = one.origins | other.origins if both else frozenset()
            return Value(rank=max(one.rank, other.rank), origins=origins)
        if one.last and other.last and (one.rank == other.rank or not one.rank or not other.rank):
            return Value("last", rank=max(one.rank, other.rank))
        known, rest, node = (one, other, right) if one.last else (other, one, left)
        if self.scalar(node):
            self.plain(node)
            return known
        if rest.kind == "plain" and known.rank:
            self.beside(node, known.rank)
            return known
        self.plain(left)
        self.plain(right)
        return PLAIN

    def scalar(self, node: Any) -> bool:
        """Whether an expression surely is a number."""
        if isinstance(node, (cst.Integer, cst.Float)):
            return True
        if isinstance(node, cst.UnaryOperation):
            return self.scalar(node.expression)
        return self.inference.of(node).kind in _NUMBERS

    def _of_Subscript(self, node: cst.Subscript) -> Value:
        owner = self.read(node.value)
        places = [e.slice for e in node.slice]
        if owner.last and isinstance(node.value, cst.Attribute):
            owner = PLAIN
        if owner.kind == "list" and len(places) == 1:
            self.whole(node.slice[0].slice)
            return owner if isinstance(places[0], cst.Slice) else owner.items[0]
        at = number(places[0].value) if isinstance(places[0], cst.Index) else None
        known = owner.kind == "tuple" and len(places) == 1 and at is not None
        if known and at is not None and -len(owner.items) <= at < len(owner.items):
            return owner.items[at]
        if len(places) == 1 and self._shape_item(node, places[0], at):
            return PLAIN
        self.plain(node.value)
        for element in node.slice:
            self.whole(element.slice)
        return Value(rank=len(places)) if _adds_axes(places) else PLAIN

    def shaped(self, node: Any) -> Value | None:
        """The array that `x.shape` or `x.size()` asks, where its channels are last."""
        asked = node.func if isinstance(node, cst.Call) and not node.args else node
        wanted = "size" if isinstance(node, cst.Call) else "shape"
        if not isinstance(asked, cst.Attribute) or asked.attr.value != wanted:
            return None
        found = self.read(asked.value)
        return found if found.last else None

    def unturned(self, node: Any) -> None:
        """Leaves the array that is asked for its shape as it is."""
        asked = node.func if isinstance(node, cst.Call) else node
        self.plan.wraps.pop(asked.value, None)

    def _shape_item(self, node: cst.Subscript, place: Any, at: int | None) -> bool:
        """x.shape[1], x.shape[2:]: what they are in MLX's layout."""
        found = self.shaped(node.value)
        if found is None:
            return False
        if isinstance(place, cst.Slice):
            start = number(place.lower) if place.lower is not None else None
            whole = place.upper is None and place.step is None
            if not whole or not found.rank or start not in (2, 2 - found.rank):
                return False
            self.plan.spatial.add(node)
        else:
            moved = None if at is None else moved_axis(at, found.rank)
            if moved is None:
                return False
            if moved != at:
                self.plan.axes[place.value] = moved
        self.unturned(node.value)
        return True


def _adds_axes(places: list[Any]) -> bool:
    """x[:, :, None, None], the form of what is added to every place of an image."""
    new = [
        isinstance(p, cst.Index) and isinstance(p.value, cst.Name) and p.value.value == "None"
        for p in places
    ]
    whole = [isinstance(p, cst.Slice) and p.lower is None and p.upper is None for p in places]
    return any(new) and all(a or b for a, b in zip(new, whole, strict=True))
