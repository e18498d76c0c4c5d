"""Joining, splitting, repeating, turning round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers

#: The parts of an array: one node that gives them all, or a node for each.
Parts = Node | tuple[Node, ...]


@lowers("aten::cat", "aten::concat", "aten::concatenate")
def cat(b: Builder, tensors: Sequence[Node], dim: int = 0) -> Node:
    """Joined along an axis; empty one-dimensional arrays count for nothing."""
    kept = tuple(x for x in tensors if x.shape != (0,)) or tuple(tensors[:1])
    kept = tuple(b.cast(x, b.dtype) if b.dtype else x for x in kept)
    return kept[0] if len(kept) == 1 else b.call("mx.concatenate", kept, axis=dim)


@lowers("aten::hstack")
def hstack(b: Builder, tensors: Sequence[Node]) -> Node:
    """Joined along the second axis; the first of vectors."""
    rows = tuple(b.reshape(x, (1,)) if x.ndim == 0 else x for x in tensors)
    return cat(b, rows, 0 if rows[0].ndim == 1 else 1)


@lowers("aten::vstack", "aten::row_stack")
def vstack(b: Builder, tensors: Sequence[Node]) -> Node:
    """Joined along the first axis; vectors are rows."""
    return cat(b, tuple(b.call("mx.atleast_2d", x) if x.ndim < 2 else x for x in tensors), 0)


@lowers("aten::dstack")
def dstack(b: Builder, tensors: Sequence[Node]) -> Node:
    """Joined along the third axis."""
    return cat(b, tuple(b.call("mx.atleast_3d", x) if x.ndim < 3 else x for x in tensors), 2)


@lowers("aten::column_stack")
def column_stack(b: Builder, tensors: Sequence[Node]) -> Node:
    """Joined along the second axis; vectors are columns."""
    columns = tuple(b.reshape(x, (-1, 1)) if x.ndim < 2 else x for x in tensors)
    return cat(b, columns, 1)


@lowers("aten::pad_sequence")
def pad_sequence(
    b: Builder,
    sequences: Sequence[Node],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Node:
    """Sequences of any lengths as one array, filled up."""
    options = (batch_first, padding_value, padding_side)
    return b.call("kit.packed.pad_sequence", tuple(sequences), *options)


@lowers("aten::stack")
def stack(b: Builder, tensors: Sequence[Node], dim: int = 0) -> Node:
    """Joined along a new axis."""
    kept = tuple(b.cast(x, b.dtype) if b.dtype else x for x in tensors)
    return b.call("mx.stack", kept, axis=dim)


@lowers("aten::split", "aten::unsafe_split")
def split(
    b: Builder, self: Node, split_size: Any = None, dim: int = 0, split_sizes: Any = None
) -> Parts:
    """Parts of one size, the last one smaller."""
    if isinstance(split_size, (tuple, list)) or split_sizes is not None:
        return split_with_sizes(b, self, split_sizes or split_size, dim)
    length = self.shape[dim]
    if isinstance(split_size, Node) or not isinstance((self.dims or self.shape)[dim], int):
        return _varying(b, self, split_size, dim)
    sizes = [min(split_size, length - at) for at in range(0, length, split_size)] or [0]
    return split_with_sizes(b, self, sizes, dim)


def _varying(b: Builder, x: Node, size: Any, dim: int) -> Parts:
    """As many parts as torch.export found, of a length that varies: even ones, or each from its
    multiple of `size` on."""
    parts = b.source.meta["val"] if b.source is not None else ()
    count = len(parts)
    lengths = {str(part.shape[dim]) for part in parts}
    if len(lengths) == 1:
        return b.call("mx.split", x, count, axis=dim)
    cuts: list[Any] = [
        None,
        *(b.scalar("mul", size, i) if i > 1 else size for i in range(1, count)),
    ]
    ends = [*cuts[1:], None]
    return tuple(b.at(x, dim, slice(*cut)) for cut in zip(cuts, ends, strict=True))


@lowers(
    "aten::split_with_sizes",
    "aten::split.sizes",
    "aten::unsafe_split_with_sizes",
    "aten::split_with_sizes_copy",
)
def split_with_sizes(b: Builder, self: Node, split_sizes: Sequence[Any], dim: int = 0) -> Node:
    """Parts of given sizes."""
    if all(isinstance(size, int) for size in split_sizes) and len(set(split_sizes)) == 1:
        return b.call("mx.split", self, len(split_sizes), axis=dim)
    cuts: list[Any] = []
    for size in split_sizes[:-1]:
        cuts.append(size if not cuts else b.scalar("add", cuts[-1], size))
    return b.call("mx.split", self, tuple(cuts), axis=dim)


@lowers("aten::chunk", "aten::unsafe_chunk")
def chunk(b: Builder, self: Node, chunks: int, dim: int = 0) -> Parts:
    """At most so many parts of one size."""
    length = self.shape[dim]
    if not isinstance((self.dims or self.shape)[dim], int):
        wide = b.scalar("add", b.dim(self, dim % self.ndim), chunks - 1)
        return _varying(b, self, b.scalar("floordiv", wide, chunks), dim)
    if length % chunks == 0 and length:
        return b.call("mx.split", self, chunks, axis=dim)
    size = max(-(-length // chunks), 1)
    return split(b, self, size, dim)


@lowers("aten::tensor_split")
def tensor_split(
    b: Builder, self: Node, sections: Any = None, dim: int = 0, indices: Any = None, **_: Any
) -> Node:
    """At cuts, or in parts whose sizes differ by one at most."""
    if (
        isinstance(sections, Node)
        or (sections is None and indices is None)
        or not isinstance(self.shape[dim], int)
    ):
        raise Refuse("with cuts in an array")
    if indices is not None:
        return b.call("mx.split", self, tuple(indices), axis=dim)
    if not isinstance((self.dims or self.shape)[dim], int):
        return _nearly_even(b, self, sections, dim)
    base, more = divmod(self.shape[dim], sections)
    return split_with_sizes(b, self, [base + (i < more) for i in range(sections)], dim)


def _nearly_even(b: Builder, x: Node, sections: int, dim: int) -> Node:
    """Parts of a length that varies, the first ones longer by one where it cannot be divided."""
    length = b.dim(x, dim % x.ndim)
    base, more = b.scalar("floordiv", length, sections), b.scalar("mod", length, sections)
    cuts = []
    for i in range(1, sections):
        start = b.scalar("mul", base, i) if i > 1 else base
        cuts.append(b.scalar("add", start, b.call("builtin.min", more, i)))
    return b.call("mx.split", x, tuple(cuts), axis=dim)


def _parts(axis: int) -> Any:
    def function(b: Builder, self: Node, sections: Any = None, indices: Any = None) -> Node:
        real = 0 if axis == 1 and self.ndim == 1 else axis
        return tensor_split(b, self, sections, real, indices)

    function.__name__ = f"split_axis_{axis}"
    return function


for _name, _axis in (("hsplit", 1), ("vsplit", 0), ("dsplit", 2)):
    lowers(f"aten::{_name}")(_parts(_axis))


@lowers("aten::unbind")
def unbind(b: Builder, self: Node, dim: int = 0) -> tuple[Node, ...]:
    """Every position of an axis."""
    return tuple(b.at(self, dim, i) for i in range(self.shape[dim]))


@lowers("aten::repeat")
def repeat(b: Builder, self: Node, repeats: Sequence[Any]) -> Node:
    """Copies side by side."""
    if all(n == 1 for n in repeats) and len(repeats) == self.ndim:
        return self
    if any(isinstance(n, Node) for n in repeats):
        return _repeated(b, self, repeats)
    return b.call("mx.tile", self, tuple(repeats))


def _repeated(b: Builder, x: Node, repeats: Sequence[Any]) -> Node:
    """Copies side by side, some numbers of them known only when run."""
    x = b.reshape(x, (*[1] * (len(repeats) - x.ndim), *b.dims(x)))
    for axis, count in enumerate(repeats):
        if isinstance(count, Node) or count != 1:
            grown = b.call("mx.expand_dims", x, axis)
            shape = b.dims(x)
            wide = b.call("mx.broadcast_to", grown, (*shape[:axis], count, *shape[axis:]))
            x = b.call("method.flatten", wide, axis, axis + 1)
    return x


@lowers("aten::tile")
def tile(b: Builder, self: Node, dims: Sequence[Any]) -> Node:
    """Copies side by side."""
    return repeat(b, self, (*[1] * (self.ndim - len(dims)), *dims))


@lowers("aten::repeat_interleave.self_int")
def repeat_interleave(
    b: Builder, self: Node, repeats: int, dim: int | None = None, output_size: Any = None
) -> Node:
    """Each position several times."""
    if isinstance(repeats, Node):
        raise Refuse("as often as a size says")
    return b.call("mx.repeat", self, repeats, axis=dim)


@lowers("aten::flip")
def flip(b: Builder, self: Node, dims: Sequence[int]) -> Node:
    """Axes backwards."""
    axes = [d % self.ndim for d in dims]
    if not axes:
        return self
    where = [slice(None, None, -1) if a in axes else slice(None) for a in range(max(axes) + 1)]
    return b.index(self, *where)


@lowers("aten::fliplr")
def fliplr(b: Builder, self: Node) -> Node:
    """The second axis backwards."""
    return flip(b, self, (1,))


@lowers("aten::flipud")
def flipud(b: Builder, self: Node) -> Node:
    """The first axis backwards."""
    return flip(b, self, (0,))


@lowers("aten::roll")
def roll(b: Builder, self: Node, shifts: Any, dims: Any = ()) -> Node:
    """Numbers moved round."""
    shifts = (shifts,) if isinstance(shifts, (int, Node)) else tuple(shifts)
    if not dims:
        flat = b.call("mx.roll", b.reshape(self, (-1,)), shifts[0])
        return b.reshape(flat, b.dims(self))
    if len(shifts) == 1:
        return b.call("mx.roll", self, shifts[0], axis=dims[0])
    return b.call("mx.roll", self, shifts, axis=tuple(dims))


@lowers("aten::rot90")
def rot90(b: Builder, self: Node, k: int = 1, dims: Sequence[int] = (0, 1)) -> Node:
    """Quarter turns in a plane."""
    k, (first, second) = k % 4, dims
    if k == 0:
        return self
    if k == 2:
        return flip(b, self, dims)
    turned = b.swap(self, first % self.ndim, second % self.ndim)
    return flip(b, turned, (first if k == 1 else second,))


@lowers("aten::block_diag")
def block_diag(b: Builder, tensors: Sequence[Node]) -> Node:
    """Matrices along a diagonal."""
    blocks = [b.call("mx.atleast_2d", x) if x.ndim < 2 else x for x in tensors]
    width, rows, before = sum(x.shape[1] for x in blocks), [], 0
    for x in blocks:
        after = width - before - x.shape[1]
        rows.append(b.call("mx.pad", b.cast(x, b.dtype or x.dtype), ((0, 0), (before, after))))
        before += x.shape[1]
    return b.call("mx.concatenate", tuple(rows))
