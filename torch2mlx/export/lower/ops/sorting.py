"""Order: sort, top-k, median, search, with torch's order of ties where torch has one."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers


def _pair(b: Builder, found: Node) -> tuple[Node, Node]:
    values, places = b.items(found)
    return values, b.cast(places, "int64")


@lowers("aten::sort")
def sort(
    b: Builder, self: Node, dim: int = -1, descending: bool = False, stable: Any = None
) -> Any:
    """Sorted values, and where they were."""
    if self.ndim == 0:
        return self, b.cast(b.call("mx.zeros_like", self), "int64")
    return _pair(b, b.call("kit.sorting.sort", self, dim, descending))


@lowers("aten::msort")
def msort(b: Builder, self: Node) -> Node:
    """Sorted along the first axis."""
    return b.call("mx.sort", self, axis=0)


@lowers("aten::argsort")
def argsort(
    b: Builder, self: Node, dim: int = -1, descending: bool = False, stable: Any = None
) -> Node:
    """Where sorted values were."""
    if self.ndim == 0:
        return b.cast(b.call("mx.zeros_like", self), "int64")
    if not descending:
        return b.cast(b.call("mx.argsort", self, axis=dim), "int64")
    return _pair(b, b.call("kit.sorting.sort", self, dim, True))[1]


@lowers("aten::topk")
def topk(
    b: Builder, self: Node, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Any:
    """The k largest or smallest, in order."""
    if self.ndim == 0:
        return self, b.cast(b.call("mx.zeros_like", self), "int64")
    options = {**({} if dim == -1 else {"dim": dim}), **({} if largest else {"largest": False})}
    return _pair(b, b.call("kit.sorting.topk", self, k, **options))


@lowers("aten::kthvalue")
def kthvalue(b: Builder, self: Node, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest."""
    return _pair(b, b.call("kit.sorting.kthvalue", self, k, dim, keepdim))


@lowers("aten::median")
def median(b: Builder, self: Node, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower of the middle two."""
    if dim is None:
        return b.call("kit.sorting.median", self)
    return _pair(b, b.call("kit.sorting.median", self, dim, keepdim))


@lowers("aten::nanmedian")
def nanmedian(b: Builder, self: Node, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower of the middle two of what is no NaN."""
    if dim is None:
        return b.call("kit.reductions.nanmedian", self)
    return _pair(b, b.call("kit.reductions.nanmedian", self, dim, keepdim))


@lowers("aten::searchsorted")
def searchsorted(
    b: Builder,
    sorted_sequence: Node,
    self: Any,
    out_int32: bool = False,
    right: bool = False,
    side: Any = None,
    sorter: Any = None,
) -> Node:
    """Where numbers belong in a sorted row."""
    if sorter is not None:
        sorted_sequence = b.call("mx.take_along_axis", sorted_sequence, sorter, axis=-1)
    right = right or side == "right"
    if sorted_sequence.ndim == 1:
        return bucketize(b, self, sorted_sequence, out_int32, right)
    found = b.call("kit.sorting.searchsorted", sorted_sequence, self, *((True,) if right else ()))
    return b.cast(found, "int32" if out_int32 else "int64")


@lowers("aten::bucketize")
def bucketize(
    b: Builder, self: Any, boundaries: Node, out_int32: bool = False, right: bool = False
) -> Node:
    """Which of the bins between boundaries."""
    found = b.call("kit.sorting.bucketize", b.array(self), boundaries, right)
    return b.cast(found, "int32" if out_int32 else "int64")


@lowers("aten::isin")
def isin(
    b: Builder,
    elements: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    **more: Any,
) -> Node:
    """Which items are among others."""
    items = b.array(elements if elements is not None else more["element"])
    others = b.array(test_elements)
    same = b.call("operator.eq", b.call("mx.expand_dims", items, -1), b.reshape(others, (-1,)))
    found = b.call("mx.any", same, axis=-1)
    return b.call("mx.logical_not", found) if invert else found


@lowers("aten::isclose")
def isclose(
    b: Builder,
    self: Node,
    other: Node,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> Node:
    """Which items are nearly equal."""
    return b.call("mx.isclose", self, other, rtol=rtol, atol=atol, equal_nan=equal_nan)


@lowers("aten::equal", "aten::allclose")
def equal(b: Builder, self: Node, other: Node, **_: Any) -> Any:
    """A truth that steers the program."""
    raise Refuse("gives a truth of Python, from data")
