"""Neighbours, windows, diagonals and combinations of items, as torch arranges them."""

from __future__ import annotations

from itertools import combinations as chosen
from itertools import combinations_with_replacement
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit import indexing


def diff(x: mx.array, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None):
    """torch.diff: differences of neighbours along an axis, n times."""
    around = [part for part in (prepend, x, append) if part is not None]
    x = mx.concatenate(around, axis=dim) if len(around) > 1 else x
    for _ in range(n):
        after, before = _from(x, dim, 1), _upto(x, dim, -1)
        x = after != before if x.dtype == mx.bool_ else after - before
    return x


def _from(x: mx.array, dim: int, start: int) -> mx.array:
    place = (*[slice(None)] * (dim % x.ndim), slice(start, None))
    return x[place]


def _upto(x: mx.array, dim: int, end: int) -> mx.array:
    place = (*[slice(None)] * (dim % x.ndim), slice(None, end))
    return x[place]


def _strips(y: mx.array, x: Any, dx: float, dim: int) -> mx.array:
    """Areas between neighbours, at points x (of y's shape, or one row) or `dx` apart."""
    pairs = (_from(y, dim, 1) + _upto(y, dim, -1)) / 2
    if x is None:
        return pairs * dx
    if x.ndim == 1:
        x = x.reshape([-1 if axis == dim % y.ndim else 1 for axis in range(y.ndim)])
        return pairs * diff(x, dim=dim % y.ndim)
    return pairs * diff(x, dim=dim)


def trapezoid(y: mx.array, x: Any = None, dx: float = 1.0, dim: int = -1) -> mx.array:
    """torch.trapezoid: the area under y, at points x (of y's shape, or one row) or `dx` apart."""
    return _strips(y, x, dx, dim).sum(axis=dim)


def cumulative_trapezoid(y: mx.array, x: Any = None, dx: float = 1.0, dim: int = -1) -> mx.array:
    """torch.cumulative_trapezoid: the area under y up to each item but the first of an axis."""
    return mx.cumsum(_strips(y, x, dx, dim), axis=dim)


def triangle(rows: int, columns: int, offset: int = 0, upper: bool = False) -> mx.array:
    """torch.tril_indices, or triu_indices with `upper`: (2, count) rows and columns, int64."""
    make = np.tri(rows, columns, offset - 1 if upper else offset, bool)
    return mx.array(np.stack(np.nonzero(~make if upper else make)).astype(np.int64))


def cross(x: mx.array, y: mx.array, dim: int | None = None) -> mx.array:
    """torch.cross: along the first axis of length 3 unless told otherwise; shapes broadcast."""
    x, y = mx.broadcast_arrays(x, y)
    axis = next(i for i, n in enumerate(x.shape) if n == 3) if dim is None else dim
    return mx.linalg.cross(x, y, axis=axis)


def diag_embed(x: mx.array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> mx.array:
    """torch.diag_embed: the last axis as a diagonal of two new axes."""
    n = x.shape[-1] + abs(offset)
    rows = np.arange(x.shape[-1])
    where = (..., mx.array(rows + max(-offset, 0)), mx.array(rows + max(offset, 0)))
    made = indexing.assign(mx.zeros((*x.shape[:-1], n, n), x.dtype), where, x)
    return mx.moveaxis(mx.moveaxis(made, -2, dim1 % made.ndim), -1, dim2 % made.ndim)


def unfold(x: mx.array, dimension: int, size: int, step: int) -> mx.array:
    """torch.Tensor.unfold: windows along an axis; what is in a window comes last."""
    axis = dimension % x.ndim
    starts = np.arange(0, x.shape[axis] - size + 1, step)
    places = mx.array(starts[:, None] + np.arange(size))
    windows = mx.take(x, places.reshape(-1), axis=axis)
    shape = (*x.shape[:axis], len(starts), size, *x.shape[axis + 1 :])
    return mx.moveaxis(windows.reshape(shape), axis + 1, -1)


def cartesian_prod(*tensors: mx.array) -> mx.array:
    """torch.cartesian_prod: all combinations of items, one in a row."""
    if len(tensors) == 1:
        return tensors[0]
    grid = mx.meshgrid(*tensors, indexing="ij")
    return mx.stack([part.reshape(-1) for part in grid], axis=1)


def combinations(x: mx.array, r: int = 2, with_replacement: bool = False) -> mx.array:
    """torch.combinations: r items of a row at a time."""
    pick = combinations_with_replacement if with_replacement else chosen
    places = np.array(list(pick(range(x.shape[0]), r)), np.int32).reshape(-1, r)
    return x[mx.array(places)]


def nonzero(x: mx.array, as_tuple: bool = False) -> Any:
    """torch.nonzero: places that are not zero, (count, axes), or a row for each axis."""
    found = indexing.nonzero(x)
    return tuple(found[:, axis] for axis in range(x.ndim)) if as_tuple else found
