"""Views and shapes: what moves no number, or only moves numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers

#: torch's "to the end" in slices.
END = 2**31


@lowers("aten::view", "aten::reshape", "aten::_unsafe_view", "aten::_reshape_alias")
def reshape(
    b: Builder, self: Node, size: Sequence[Any] = (), shape: Sequence[Any] = (), **_: Any
) -> Node:
    """The same numbers in another shape."""
    wanted = tuple(size) or tuple(shape)
    known = self.dims if self.dims is not None else self.shape
    if wanted == tuple(known):
        return self
    return b.reshape(self, wanted)


@lowers("aten::view.dtype")
def view_dtype(b: Builder, self: Node, dtype: str) -> Node:
    """The same bytes read as another dtype."""
    from torch2mlx.export.ir.builder import mx_dtype

    return b.call("mx.view", self, mx_dtype(dtype))


@lowers("aten::view_as", "aten::reshape_as")
def view_as(b: Builder, self: Node, other: Node) -> Node:
    """In the shape of another."""
    return b.reshape(self, b.dims(other))


@lowers("aten::flatten")
def flatten(b: Builder, self: Node, start_dim: int = 0, end_dim: int = -1, **_: Any) -> Node:
    """Axes from start to end as one."""
    if self.ndim == 0:
        return b.reshape(self, (1,))
    start, end = start_dim % self.ndim, end_dim % self.ndim
    return (
        self
        if start == end
        else b.call("method.flatten", self, start, end if end != self.ndim - 1 else -1)
    )


@lowers("aten::ravel")
def ravel(b: Builder, self: Node) -> Node:
    """All axes as one."""
    return b.reshape(self, (-1,))


@lowers("aten::unflatten")
def unflatten(b: Builder, self: Node, dim: int, sizes: Sequence[Any], **_: Any) -> Node:
    """One axis as several."""
    return b.call("mx.unflatten", self, dim % self.ndim, tuple(sizes))


@lowers("aten::transpose", "aten::swapaxes", "aten::swapdims")
def transpose(
    b: Builder, self: Node, dim0: int = 0, dim1: int = 0, axis0: int = 0, axis1: int = 0
) -> Node:
    """Two axes exchanged."""
    first, second = (dim0 or axis0), (dim1 or axis1)
    return self if self.ndim == 0 else b.swap(self, first % self.ndim, second % self.ndim)


@lowers("aten::permute")
def permute(b: Builder, self: Node, dims: Sequence[int]) -> Node:
    """Axes in another order."""
    return b.transpose(self, dims) if self.ndim else self


@lowers("aten::t", "aten::numpy_T")
def t(b: Builder, self: Node) -> Node:
    """Axes reversed."""
    return b.transpose(self, tuple(reversed(range(self.ndim)))) if self.ndim > 1 else self


@lowers("aten::mT", "aten::matrix_transpose")
def matrix_transpose(b: Builder, self: Node) -> Node:
    """The last two axes exchanged."""
    return b.swap(self, -1, -2)


@lowers("aten::mH", "aten::matrix_H", "aten::adjoint")
def adjoint(b: Builder, self: Node) -> Node:
    """The last two axes exchanged, conjugated."""
    turned = b.swap(self, -1, -2) if self.ndim > 1 else self
    return b.call("mx.conj", turned) if self.dtype == "complex64" else turned


@lowers("aten::movedim", "aten::moveaxis")
def movedim(b: Builder, self: Node, source: Any, destination: Any) -> Node:
    """Axes moved to other places."""
    source = [source] if isinstance(source, int) else list(source)
    destination = [destination] if isinstance(destination, int) else list(destination)
    source = [s % self.ndim for s in source]
    order = [a for a in range(self.ndim) if a not in source]
    for place, axis in sorted(zip((d % self.ndim for d in destination), source, strict=True)):
        order.insert(place, axis)
    return b.transpose(self, order)


@lowers("aten::unsqueeze")
def unsqueeze(b: Builder, self: Node, dim: int) -> Node:
    """A new axis of one."""
    return b.call("mx.expand_dims", self, dim % (self.ndim + 1))


@lowers("aten::squeeze")
def squeeze(b: Builder, self: Node, dim: Any = None) -> Node:
    """Axes of one away; others stay. A length that is 1 in the example was held to be 1 by
    torch.export too, also where it is computed; MLX refuses to squeeze another. One that the data
    decides may be 1 in another call, where torch's result has an axis less."""
    axes = range(self.ndim) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if any(getattr(self.dims[a], "by_data", False) for a in axes if self.dims):
        raise Refuse("squeezes an axis whose length the data decides: name axes that are always 1")
    ones = tuple(a % self.ndim for a in axes if self.ndim and self.shape[a] == 1)
    return b.call("method.squeeze", self, ones[0] if len(ones) == 1 else ones) if ones else self


@lowers("aten::expand", "aten::broadcast_to")
def expand(b: Builder, self: Node, size: Sequence[Any], implicit: bool = False) -> Node:
    """Axes of one repeated without copying."""
    before = len(size) - self.ndim
    wanted = tuple(
        b.dim(self, i - before) if isinstance(n, int) and n == -1 else n for i, n in enumerate(size)
    )
    known = self.dims if self.dims is not None else self.shape
    return self if wanted == tuple(known) else b.call("mx.broadcast_to", self, wanted)


@lowers("aten::expand_as")
def expand_as(b: Builder, self: Node, other: Node) -> Node:
    """Broadcast to the shape of another."""
    return b.call("mx.broadcast_to", self, b.dims(other))


@lowers("aten::broadcast_tensors")
def broadcast_tensors(b: Builder, tensors: Sequence[Node]) -> Node:
    """All in one common shape."""
    return b.call("mx.broadcast_arrays", *tensors)


@lowers("aten::slice")
def slice_(
    b: Builder, self: Node, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Node:
    """Part of one axis."""
    start = None if start == 0 else start
    length = (self.dims or self.shape)[dim % self.ndim]
    if isinstance(end, int) and (end >= END or (isinstance(length, int) and end >= length)):
        end = None
    if start is None and end is None and step == 1:
        return self
    return b.at(self, dim, slice(start, end, None if step == 1 else step))


@lowers("aten::select")
def select(b: Builder, self: Node, dim: int, index: Any) -> Node:
    """One position of an axis, which goes."""
    return b.at(self, dim, index)


@lowers("aten::narrow")
def narrow(b: Builder, self: Node, dim: int, start: Any, length: Any) -> Node:
    """`length` positions of an axis from `start`."""
    if isinstance(start, Node) and start.is_array:
        raise Refuse("starts at a number in an array")
    return b.at(self, dim, slice(start, b.scalar("add", start, length)))


@lowers("aten::diagonal")
def diagonal(b: Builder, self: Node, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Node:
    """The diagonal of two axes, as the last axis."""
    return b.call("mx.diagonal", self, offset, dim1, dim2)


@lowers("aten::linalg_diagonal")
def linalg_diagonal(b: Builder, A: Node, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Node:
    """The diagonal of matrices."""
    return b.call("mx.diagonal", A, offset, dim1, dim2)


@lowers("aten::atleast_2d", "aten::atleast_2d.Sequence")
def atleast_2d(b: Builder, self: Any = None, tensors: Any = None) -> Any:
    """With two axes or more, new ones first."""
    if tensors is not None:
        return tuple(b.call("mx.atleast_2d", x) for x in tensors)
    return b.call("mx.atleast_2d", self)


@lowers("aten::atleast_3d", "aten::atleast_3d.Sequence")
def atleast_3d(b: Builder, self: Any = None, tensors: Any = None) -> Any:
    """With three axes or more."""
    if tensors is not None:
        return tuple(b.call("mx.atleast_3d", x) for x in tensors)
    return b.call("mx.atleast_3d", self)


@lowers("aten::diag")
def diag(b: Builder, self: Node, diagonal: int = 0) -> Node:
    """A vector as a diagonal, or the diagonal of a matrix."""
    return b.call("mx.diag", self, diagonal)


@lowers("aten::diagflat")
def diagflat(b: Builder, self: Node, offset: int = 0) -> Node:
    """All numbers as a diagonal."""
    return b.call("mx.diag", b.reshape(self, (-1,)), offset)


@lowers("aten::unfold")
def unfold(b: Builder, self: Node, dimension: int, size: int, step: int) -> Node:
    """Windows of an axis, as a new last axis."""
    if self.ndim == 0:
        return b.reshape(self, (1,))
    axis = dimension % self.ndim
    last = b.scalar("sub", b.dim(self, axis), size - 1)
    starts = b.call("mx.arange", 0, last, step)
    offsets = b.call("mx.arange", size)
    where = b.call("operator.add", b.call("mx.expand_dims", starts, 1), offsets)
    taken = b.call("mx.take", self, where, axis=axis)
    return b.call("mx.moveaxis", taken, axis + 1, -1) if axis + 1 != self.ndim else taken


@lowers("aten::as_strided", "aten::as_strided_copy")
def as_strided(
    b: Builder,
    self: Node,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Node:
    """A view by strides of dense memory."""
    before = b.source.args[0].meta.get("val") if b.source is not None else None
    if before is not None and not before.is_contiguous():
        raise Refuse("of memory that is not laid out row by row")
    last = (storage_offset or 0) + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= self.value.size or (before is not None and before.storage_offset() != 0):
        raise Refuse("of memory outside of the array")
    return b.call("mx.as_strided", self, tuple(size), tuple(stride), storage_offset or 0)


@lowers("aten::atleast_1d")
def atleast_1d(b: Builder, self: Any = None, tensors: Any = None) -> Any:
    """With one axis or more."""
    if tensors is not None:
        return tuple(b.call("mx.atleast_1d", x) for x in tensors)
    return b.call("mx.atleast_1d", self)
