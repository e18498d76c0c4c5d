"""Distinct values and runs of equal ones, as torch.unique and torch.unique_consecutive have them.

How many there are depends on the values, which are read: inside mx.compile these functions raise.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np


def _asked(values: mx.array, more: list[mx.array], asked: tuple[bool, bool]) -> Any:
    """The values, or a tuple of them and what else is asked for, as torch gives it."""
    if not any(asked):
        return values
    return (values, *(part for part, wanted in zip(more, asked, strict=True) if wanted))


def _rows(x: mx.array, dim: int | None) -> tuple[mx.array, tuple[int, ...]]:
    """What is told apart, one in a row, and its shape."""
    moved = x.reshape(-1) if dim is None else mx.moveaxis(x, dim, 0)
    width = int(np.prod(moved.shape[1:]))
    return moved.reshape(moved.shape[0], width), moved.shape


def _taken(rows: mx.array, places: Any, shape: tuple[int, ...], dim: int | None) -> mx.array:
    taken = mx.take(rows, mx.array(places, dtype=mx.int32), axis=0)
    made = taken.reshape(len(places), *shape[1:])
    return made if dim is None else mx.moveaxis(made, 0, dim)


def _readable(rows: mx.array) -> np.ndarray:
    """Rows in numpy, which has no bfloat16: float32 holds all of its numbers."""
    return np.array(rows.astype(mx.float32) if rows.dtype == mx.bfloat16 else rows)


def unique(
    x: mx.array,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """torch.unique, sorted: values, or with `dim` slices along it, in no order but the sorted one.

    The inverse, int64, has the shape of x (with `dim` the length of that axis), and the counts,
    int64, one number for each value. Every NaN is a value of its own.
    """
    rows, shape = _rows(x, dim)
    found = _readable(rows)
    if rows.shape[1] == 1:
        parts = np.unique(found[:, 0], True, True, True, equal_nan=False)
    else:
        parts = np.unique(found, True, True, True, axis=0)
    _, places, inverse, counts = parts
    values = _taken(rows, places, shape, dim)
    back = inverse.reshape(x.shape if dim is None else (-1,))
    both = [mx.array(part.astype(np.int64)) for part in (back, counts)]
    return _asked(values, both, (return_inverse, return_counts))


def unique_consecutive(
    x: mx.array,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """torch.unique_consecutive: the first of each run of equal values, or of slices along `dim`."""
    rows, shape = _rows(x, dim)
    found = _readable(rows)
    new = np.ones(found.shape[0], bool)
    new[1:] = (found[1:] != found[:-1]).any(axis=1)
    places = np.flatnonzero(new)
    values = _taken(rows, places, shape, dim)
    inverse = (np.cumsum(new) - 1).reshape(x.shape if dim is None else (-1,))
    counts = np.diff(np.append(places, found.shape[0]))
    both = [mx.array(part.astype(np.int64)) for part in (inverse, counts)]
    return _asked(values, both, (return_inverse, return_counts))
