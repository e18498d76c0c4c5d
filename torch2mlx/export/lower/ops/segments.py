"""Values by their number: distinct ones, runs, segments, counts; tables with a largest norm."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node, Symbol
from torch2mlx.export.lower.ops.registry import lowers


def _told_apart(b: Builder, name: str, x: Node, dim: Any, inverse: bool, counts: bool) -> Any:
    """Values, inverse and counts; what is not asked for has no meaning, and must not be read."""
    asked = {"return_inverse": inverse, "return_counts": counts}
    unread(b, [place for place, wanted in enumerate(asked.values(), 1) if not wanted])
    options = {key: True for key, wanted in asked.items() if wanted}
    found = b.call(f"kit.distinct.{name}", x, **options, **({} if dim is None else {"dim": dim}))
    parts = list(b.items(found)) if options else [found]
    values = parts.pop(0)
    return (values, *(parts.pop(0) if wanted else None for wanted in asked.values()))


def unread(b: Builder, places: Any) -> None:
    """Refuses a call of which results are read that the kit does not compute."""
    if any(user.users for user in b.source.users if user.args[1] in places):
        raise Refuse("where results are read that were not asked for")


@lowers("aten::_unique2", "aten::_unique")
def unique(
    b: Builder,
    self: Node,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    """Distinct values in their order."""
    return _told_apart(b, "unique", self, None, return_inverse, return_counts)


@lowers("aten::unique_dim")
def unique_dim(
    b: Builder,
    self: Node,
    dim: int,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    """Distinct slices in their order."""
    return _told_apart(b, "unique", self, dim, return_inverse, return_counts)


@lowers("aten::unique_consecutive")
def unique_consecutive(
    b: Builder,
    self: Node,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The first of each run."""
    return _told_apart(b, "unique_consecutive", self, dim, return_inverse, return_counts)


@lowers("aten::mode")
def mode(b: Builder, self: Node, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent values, and where they are."""
    if self.ndim == 0:
        return self, b.cast(b.call("mx.zeros_like", self), "int64")
    return b.items(b.call("kit.sorting.mode", self, dim, keepdim))


@lowers("aten::repeat_interleave.self_Tensor", "aten::repeat_interleave.Tensor")
def repeat_interleave(
    b: Builder, repeats: Node, self: Any = None, dim: Any = None, output_size: Any = None
) -> Node:
    """Every item as often as its number says; the numbers are read."""
    if self is None:
        self = b.call("mx.arange", b.dim(repeats, 0), dtype=Symbol("mx.int64"))
    return b.call("kit.tensors.repeat_interleave", self, repeats, dim)


@lowers("aten::index_reduce")
def index_reduce(
    b: Builder,
    self: Node,
    dim: int,
    index: Node,
    source: Node,
    reduce: str,
    include_self: bool = True,
) -> Node:
    """Reduces slices at positions of an axis."""
    if "float" not in self.dtype:
        raise Refuse("of whole numbers")
    x, y = (b.reshape(v, (1,)) if v.ndim == 0 else v for v in (self, source))
    made = b.call("kit.segments.index_reduce", x, dim, index, y, reduce, include_self)
    return b.reshape(made, ()) if self.ndim == 0 else made


@lowers("aten::segment_reduce")
def segment_reduce(
    b: Builder,
    data: Node,
    reduce: str,
    lengths: Any = None,
    indices: Any = None,
    offsets: Any = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Any = None,
) -> Node:
    """Reduces runs of an axis."""
    if indices is not None:
        raise Refuse("with indices")
    given = {"lengths": lengths, "offsets": offsets, "initial": initial}
    options = {name: value for name, value in given.items() if value is not None}
    if axis:
        options["axis"] = axis
    return b.call("kit.segments.segment_reduce", data, reduce, **options)


@lowers("aten::embedding_renorm", "aten::embedding_renorm_")
def embedding_renorm(
    b: Builder, self: Node, indices: Node, max_norm: float, norm_type: float = 2.0
) -> Node:
    """The table with the rows that are read scaled to a largest norm."""
    more = () if norm_type == 2 else (norm_type,)
    return b.call("kit.embedding.renorm_rows", self, indices, max_norm, *more)


@lowers("aten::nonzero_static")
def nonzero_static(b: Builder, self: Node, size: int, fill_value: int = -1) -> Node:
    """Positions of the first so many that are not zero."""
    return b.cast(b.call("kit.indexing.nonzero_static", self, size, fill_value), "int64")
