"""Reading and writing by index, by mask, by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse, mx_dtype
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers


@lowers("aten::index", "aten::_unsafe_index")
def index(b: Builder, self: Node, indices: Sequence[Any]) -> Node:
    """x[i, j, :, k]: arrays of positions, masks, and None for whole axes."""
    if any(i is not None and i.dtype == "bool" for i in indices):
        return _masked(b, self, indices)
    where = [
        slice(None) if i is None else _from_end(b, self, axis, i) for axis, i in enumerate(indices)
    ]
    if len([i for i in indices if i is not None]) == 1:
        axis = next(a for a, i in enumerate(indices) if i is not None)
        return b.at(self, axis, where[axis])
    return b.index(self, *where)


def _from_end(b: Builder, x: Node, axis: int, i: Node) -> Node:
    """Positions as they are: MLX counts negative ones from the end too."""
    return i


def _masked(b: Builder, x: Node, indices: Sequence[Any]) -> Node:
    kept = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if len(kept) != 1 or kept[0][0] != 0:
        return b.call("kit.indexing.index", x, tuple(indices))
    return b.call("kit.indexing.masked_rows", x, kept[0][1])


@lowers("aten::index_put", "aten::_index_put_impl", "aten::_unsafe_index_put")
def index_put(
    b: Builder, self: Node, indices: Sequence[Any], values: Node, accumulate: bool = False, **_: Any
) -> Node:
    """x[i, j] = values, or += with accumulate."""
    masks = [i for i in indices if i is not None and i.dtype == "bool"]
    values = b.cast(values, self.dtype)
    if masks:
        alone = len([i for i in indices if i is not None]) == 1 and not accumulate
        if alone and (len(indices) == 1 or values.ndim == 0):
            return _put_masked(b, self, masks[0], values, len(indices) - 1)
        return b.call("kit.indexing.index_put", self, tuple(indices), values, accumulate)
    where = tuple(slice(None) if i is None else i for i in indices)
    if accumulate:
        return b.call("kit.indexing.accumulate", self, where, values)
    return b.call("kit.indexing.assign", self, where, values)


def _put_masked(b: Builder, x: Node, mask: Node, values: Node, before: int) -> Node:
    """x[mask] = values, the mask behind `before` whole axes."""
    grown = mask
    for _ in range(x.ndim - mask.ndim - before):
        grown = b.call("mx.expand_dims", grown, -1)
    if values.ndim == 0 or (values.ndim == 1 and values.shape[0] == 1 and _one(values)):
        flat = values if values.ndim == 0 else b.reshape(values, ())
        return b.call("mx.where", grown, flat, x)
    if mask.ndim == x.ndim:
        return b.call("kit.indexing.masked_scatter", x, mask, values)
    return b.call("kit.indexing.masked_rows_put", x, mask, values)


def _one(values: Node) -> bool:
    """Whether an array has one item whatever the mask: not a count that happens to be one."""
    return values.dims is None or values.dims[0] == 1


@lowers("aten::index_select", "aten::index_select.dimname")
def index_select(b: Builder, self: Node, dim: int, index: Node) -> Node:
    """Positions of one axis."""
    if self.ndim == 0:
        return self
    index = b.reshape(index, (1,)) if index.ndim == 0 else index
    return b.call("mx.take", self, index, axis=dim)


@lowers("aten::take")
def take(b: Builder, self: Node, index: Node) -> Node:
    """Positions in the flattened array."""
    return b.call("mx.take", self, index)


@lowers("aten::take_along_dim")
def take_along_dim(b: Builder, self: Node, indices: Node, dim: int | None = None) -> Node:
    """Positions along an axis, other axes broadcast."""
    if dim is None:
        return b.call("mx.take", self, b.reshape(indices, (-1,)))
    return b.call("mx.take_along_axis", self, indices, axis=dim)


@lowers("aten::gather")
def gather(b: Builder, self: Node, dim: int, index: Node, sparse_grad: bool = False) -> Node:
    """One position along an axis for each of the index."""
    if self.ndim == 0:
        return b.call("mx.broadcast_to", self, b.dims(index))
    axis = dim % self.ndim
    if index.ndim == 0:
        return b.at(self, axis, index) if self.ndim == 1 else b.index(self, index)
    same = all(self.shape[a] == index.shape[a] for a in range(self.ndim) if a != axis)
    if same and index.ndim == self.ndim:
        return b.call("mx.take_along_axis", self, index, axis=dim)
    return b.call("kit.indexing.gather", self, dim, index)


@lowers("aten::scatter", "aten::scatter.src", "aten::scatter.value")
def scatter(
    b: Builder,
    self: Node,
    dim: int,
    index: Node,
    src: Any = None,
    value: Any = None,
    reduce: str | None = None,
) -> Node:
    """Writes along an axis at the positions of the index."""
    source = value if src is None else src
    if reduce is not None:
        names = {"add": "sum", "multiply": "prod"}
        source = (
            source
            if isinstance(source, Node)
            else b.call("mx.full", b.dims(index), source, mx_dtype(self.dtype))
        )
        return b.call("kit.indexing.scatter_reduce", self, dim, index, source, names[reduce])
    if isinstance(source, Node):
        source = b.cast(source, self.dtype)
    return b.call("kit.indexing.scatter", self, dim, index, source)


@lowers("aten::scatter_add")
def scatter_add(b: Builder, self: Node, dim: int, index: Node, src: Node) -> Node:
    """Adds along an axis at the positions of the index."""
    return b.call("kit.indexing.scatter_add", self, dim, index, b.cast(src, self.dtype))


@lowers("aten::scatter_reduce")
def scatter_reduce(
    b: Builder, self: Node, dim: int, index: Node, src: Node, reduce: str, include_self: bool = True
) -> Node:
    """Reduces along an axis at the positions of the index."""
    if reduce != "sum" and "float" not in self.dtype:
        raise Refuse("of whole numbers, but for sums")
    return b.call("kit.indexing.scatter_reduce", self, dim, index, src, reduce, include_self)


@lowers("aten::index_add")
def index_add(b: Builder, self: Node, dim: int, index: Node, source: Node, alpha: Any = 1) -> Node:
    """Adds slices at positions of an axis."""
    if self.ndim == 0:
        total = b.call("mx.sum", source) if source.ndim else source
        return b.call("operator.add", self, b.call("operator.mul", total, alpha))
    if self.dtype == "bool":
        raise Refuse("of booleans")
    return b.call("kit.indexing.index_add", self, dim, index, source, alpha)


@lowers("aten::index_copy")
def index_copy(b: Builder, self: Node, dim: int, index: Node, source: Node) -> Node:
    """Writes slices at positions of an axis."""
    if self.ndim == 0:
        return b.reshape(source, ())
    axis = dim % self.ndim
    return b.call("kit.indexing.assign", self, (*[slice(None)] * axis, index), source)


@lowers("aten::index_fill")
def index_fill(b: Builder, self: Node, dim: int, index: Node, value: Any) -> Node:
    """Writes one number at positions of an axis."""
    if self.ndim == 0:
        if isinstance(value, Node):  # mx.full doubles the gradient of its value
            return b.cast(value, self.dtype)
        return b.call("mx.full", (), value, mx_dtype(self.dtype))
    axis = dim % self.ndim
    value = b.cast(value, self.dtype) if isinstance(value, Node) else value
    return b.call("kit.indexing.assign", self, (*[slice(None)] * axis, index), value)


@lowers("aten::select_scatter")
def select_scatter(b: Builder, self: Node, src: Node, dim: int, index: Any) -> Node:
    """x with one position of an axis replaced."""
    where = (*[slice(None)] * (dim % self.ndim), index)
    return b.call("kit.indexing.assign", self, where, b.cast(src, self.dtype))


@lowers("aten::slice_scatter")
def slice_scatter(
    b: Builder,
    self: Node,
    src: Node,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Node:
    """x with part of an axis replaced."""
    end = None if isinstance(end, int) and end >= 2**31 else end
    part = slice(start or None, end, None if step == 1 else step)
    where = (*[slice(None)] * (dim % self.ndim), part)
    return b.call("kit.indexing.assign", self, where, b.cast(src, self.dtype))


@lowers("aten::diagonal_scatter")
def diagonal_scatter(
    b: Builder, self: Node, src: Node, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Node:
    """x with a diagonal replaced."""
    return b.call(
        "kit.indexing.diagonal_scatter", self, b.cast(src, self.dtype), offset, dim1, dim2
    )


@lowers("aten::masked_select")
def masked_select(b: Builder, self: Node, mask: Node) -> Node:
    """Items where the mask holds, in order."""
    return b.call("kit.indexing.masked_select", self, mask)


@lowers("aten::nonzero", "aten::argwhere")
def nonzero(b: Builder, self: Node) -> Node:
    """Positions of what is not zero; reads their number."""
    return b.cast(b.call("kit.indexing.nonzero", self), "int64")


@lowers("aten::nonzero_numpy")
def nonzero_numpy(b: Builder, self: Node) -> tuple[Node, ...]:
    """The same, axis by axis."""
    found = nonzero(b, self)
    return tuple(b.index(found, slice(None), axis) for axis in range(self.ndim))


@lowers("aten::masked_scatter")
def masked_scatter(b: Builder, self: Node, mask: Node, source: Node) -> Node:
    """Items of the source, in order, where the mask holds."""
    return b.call("kit.indexing.masked_scatter", self, mask, source)


@lowers("aten::fill_diagonal")
def fill_diagonal(b: Builder, self: Node, fill_value: Any, wrap: bool = False) -> Node:
    """One number written where all places are equal."""
    return b.call("kit.writes.fill_diagonal", self, fill_value, *([True] if wrap else []))


@lowers("aten::put")
def put(b: Builder, self: Node, index: Node, source: Node, accumulate: bool = False) -> Node:
    """Writes at positions of the flattened array."""
    flat = b.reshape(self, (-1,))
    where = (b.reshape(index, (-1,)),)
    kind = "accumulate" if accumulate else "assign"
    written = b.call(f"kit.indexing.{kind}", flat, where, b.reshape(source, (-1,)))
    return b.reshape(written, b.dims(self))


@lowers("aten::copy", "aten::copy_")
def copy(b: Builder, self: Node, src: Node, non_blocking: bool = False) -> Node:
    """The source in the shape and dtype of self."""
    value = b.cast(src, self.dtype)
    return value if value.shape == self.shape else b.call("mx.broadcast_to", value, b.dims(self))


@lowers("aten::item", "aten::_local_scalar_dense")
def item(b: Builder, self: Node) -> Any:
    """One number out of an array."""
    return b.call("method.item", self)


@lowers("aten::tril")
def tril(b: Builder, self: Node, diagonal: int = 0) -> Node:
    """The lower triangle."""
    return b.call("mx.tril", self, *(() if diagonal == 0 else (diagonal,)))


@lowers("aten::triu")
def triu(b: Builder, self: Node, diagonal: int = 0) -> Node:
    """The upper triangle."""
    return b.call("mx.triu", self, *(() if diagonal == 0 else (diagonal,)))


@lowers("aten::bincount")
def bincount(b: Builder, self: Node, weights: Any = None, minlength: int = 0) -> Node:
    """How often each number occurs."""
    return b.call("kit.sorting.bincount", self, weights, minlength)


@lowers("aten::where.default")
def where_true(b: Builder, condition: Node) -> tuple[Node, ...]:
    """Positions of what is true, axis by axis."""
    return nonzero_numpy(b, condition)
