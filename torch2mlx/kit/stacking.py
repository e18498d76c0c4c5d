"""torch's ways to join arrays of too few axes, to cut arrays into parts, to turn them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit.stubs import split


def concatenate(arrays: Sequence[mx.array], axis: int = 0) -> mx.array:
    """torch.cat, which passes over arrays of the shape (0,) whatever axes the others have; the
    dtype is the one of all."""
    kept = [x for x in arrays if x.shape != (0,)]
    made = mx.concatenate(kept, axis=axis) if kept else arrays[0]
    dtypes = [x.dtype for x in arrays if x.shape == (0,)]
    for dtype in dtypes:
        made = made.astype((mx.zeros((), dtype) + mx.zeros((), made.dtype)).dtype)
    return made


def column_stack(tensors: Sequence[mx.array]) -> mx.array:
    """torch.column_stack: joined along the second axis, vectors as columns."""
    return mx.concatenate([x.reshape(-1, 1) if x.ndim < 2 else x for x in tensors], axis=1)


def dstack(tensors: Sequence[mx.array]) -> mx.array:
    """torch.dstack: joined along the third axis."""
    deep: list[Any] = [mx.atleast_3d(x) for x in tensors]
    return mx.concatenate(deep, axis=2)


def atleast(rank: int, *tensors: Any) -> Any:
    """torch.atleast_1d, 2d and 3d: an array, or of several arrays or a list of them a list."""
    several = len(tensors) != 1 or isinstance(tensors[0], (tuple, list))
    given = tensors[0] if len(tensors) == 1 and several else tensors
    grow = (mx.atleast_1d, mx.atleast_2d, mx.atleast_3d)[rank - 1]
    return [grow(x) for x in given] if several else grow(tensors[0])


def broadcast_tensors(*tensors: Any) -> list[mx.array]:
    """torch.broadcast_tensors: all in their common shape."""
    given = tensors[0] if isinstance(tensors[0], (tuple, list)) else tensors
    return list(mx.broadcast_arrays(*given))


def block_diag(*tensors: mx.array) -> mx.array:
    """torch.block_diag: matrices along a diagonal; vectors are rows."""
    blocks: list[Any] = [mx.atleast_2d(x) for x in tensors]
    width, rows, before = sum(x.shape[1] for x in blocks), [], 0
    for x in blocks:
        rows.append(mx.pad(x, [(0, 0), (before, width - before - x.shape[1])]))
        before += x.shape[1]
    return mx.concatenate(rows)


def tensor_split(x: mx.array, parts: Any, dim: int = 0) -> list[mx.array]:
    """torch.tensor_split: `parts` nearly even parts, or cuts at the positions in `parts`."""
    if isinstance(parts, mx.array):
        parts = parts.tolist()
    if not isinstance(parts, int):
        return split(x, list(parts), axis=dim)
    size, more = divmod(x.shape[dim], parts)
    ends = np.cumsum([size + (i < more) for i in range(parts)])
    return split(x, ends[:-1].tolist(), axis=dim)


def hsplit(x: mx.array, parts: Any) -> list[mx.array]:
    """torch.hsplit: tensor_split along the second axis, the first of vectors."""
    return tensor_split(x, parts, 0 if x.ndim == 1 else 1)


def rot90(x: mx.array, k: int = 1, dims: Sequence[int] = (0, 1)) -> mx.array:
    """torch.rot90: k quarter turns from the first of two axes towards the second."""
    first, second = dims
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return mx.flip(x, (first, second))
    return mx.flip(mx.swapaxes(x, first, second), first if k == 1 else second)


def adjoint(x: mx.array) -> mx.array:
    """torch.adjoint: the last two axes exchanged, complex numbers conjugated."""
    turned = x.swapaxes(-1, -2)
    return mx.conj(turned) if x.dtype == mx.complex64 else turned
