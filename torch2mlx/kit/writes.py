"""torch's writes by position as values: the array with some items replaced, itself unchanged."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from torch2mlx.kit import indexing


def _along(x: mx.array, dim: int, index: Any) -> tuple[Any, ...]:
    return (*[slice(None)] * (dim % x.ndim), index)


def index_copy(x: mx.array, dim: int, index: mx.array, source: mx.array) -> mx.array:
    """torch.index_copy: slices written at positions of an axis."""
    if x.ndim == 0:
        return source.reshape(())
    return indexing.assign(x, _along(x, dim, index), source)


def index_fill(x: mx.array, dim: int, index: mx.array, value: Any) -> mx.array:
    """torch.index_fill: one number written at positions of an axis."""
    if x.ndim == 0:
        return mx.array(value).astype(x.dtype)
    value = value.astype(x.dtype) if isinstance(value, mx.array) else value
    return indexing.assign(x, _along(x, dim, index), value)


def fill_diagonal(x: mx.array, fill_value: Any, wrap: bool = False) -> mx.array:
    """torch's fill_diagonal_: one number written at (i, i, ...), of two axes or of equal ones; with
    `wrap`, tall matrices start another diagonal, a row below where one ends."""
    rows = x.shape[0]
    if x.ndim < 2 or (x.ndim > 2 and set(x.shape) != {rows}):
        raise ValueError(f"fill_diagonal_ takes two axes, or equal ones: {tuple(x.shape)}")
    strides = [1]
    for size in reversed(x.shape[1:]):
        strides.append(strides[-1] * size)
    end = x.size if wrap or x.ndim > 2 else min(x.shape) * sum(strides)
    if not x.size:
        return x
    places = mx.arange(0, min(end, x.size), sum(strides))
    return put(x, places, mx.full(places.shape, fill_value, dtype=x.dtype))


def put(x: mx.array, index: mx.array, source: mx.array, accumulate: bool = False) -> mx.array:
    """torch.put: items written (or added) at positions of the flattened array."""
    write = indexing.accumulate if accumulate else indexing.assign
    flat = write(x.reshape(-1), (index.reshape(-1),), source.reshape(-1))
    return flat.reshape(x.shape)


def select_scatter(x: mx.array, src: mx.array, dim: int, index: int) -> mx.array:
    """torch.select_scatter: one position of an axis replaced."""
    return indexing.assign(x, _along(x, dim, index), src.astype(x.dtype))


def slice_scatter(
    x: mx.array,
    src: mx.array,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> mx.array:
    """torch.slice_scatter: part of an axis replaced."""
    return indexing.assign(x, _along(x, dim, slice(start, end, step)), src.astype(x.dtype))
