"""Sliding windows over channels-last data: what pooling and folding share.

Data is (N, *spatial, C), or (*spatial, C) where a function says so. Windows are never gathered: a
window of k items is k strided slices, combined one after the other, so memory stays small and
gradients of ties go to the first item, as in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

Size = int | Sequence[int]
#: Positions of windows along one axis: (windows, items of a window), in the unpadded input.
Positions = np.ndarray


def sizes(value: Size | None, rank: int, default: Size = 1) -> tuple[int, ...]:
    """One number for each spatial dimension."""
    if value is None or (not isinstance(value, int) and len(value) == 0):
        value = default
    if isinstance(value, int):
        return (value,) * rank
    return tuple(value) * rank if len(value) == 1 else tuple(value)


def sliding(
    length: int, kernel: int, stride: int, pad: int, dilation: int, ceil: bool
) -> Positions:
    """Windows of a pooling layer; with `ceil` the last may reach past the end."""
    room = length + 2 * pad - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= length + pad:
        count -= 1
    if count < 1:
        raise ValueError(f"a window of {dilation * (kernel - 1) + 1} does not fit into {length}")
    return np.arange(count)[:, None] * stride - pad + np.arange(kernel)[None] * dilation


def adaptive(length: int, outputs: int) -> Positions:
    """Windows of an adaptive pooling layer; short ones repeat their last item."""
    starts = np.arange(outputs) * length // outputs
    ends = -(-(np.arange(1, outputs + 1) * length) // outputs)
    return np.minimum(starts[:, None] + np.arange((ends - starts).max())[None], ends[:, None] - 1)


def inside(positions: Positions, length: int) -> np.ndarray:
    """Which items of which windows are in the input."""
    return (positions >= 0) & (positions < length)


def _slice(x: mx.array, axis: int, at: np.ndarray) -> mx.array:
    """Items `at` of an axis: a strided slice where they are evenly spaced."""
    step = int(at[1] - at[0]) if len(at) > 1 else 1
    if step > 0 and np.array_equal(at, at[0] + step * np.arange(len(at))):
        index = [slice(None)] * x.ndim
        index[axis] = slice(int(at[0]), int(at[-1]) + 1, step)
        return x[tuple(index)]
    return mx.take(x, mx.array(at), axis=axis)


def items(x: mx.array, axis: int, positions: Positions, fill: float | int) -> list[mx.array]:
    """The first, second, ... item of every window along an axis; `fill` outside the input."""
    before = max(0, -int(positions.min()))
    after = max(0, int(positions.max()) - x.shape[axis] + 1)
    if before or after:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (before, after)
        x = mx.pad(x, widths, constant_values=mx.array(fill, x.dtype))
    return [_slice(x, axis, positions[:, j] + before) for j in range(positions.shape[1])]


def reduce_windows(
    x: mx.array,
    positions: Sequence[Positions],
    fill: float,
    combine: Callable[[mx.array, mx.array], mx.array],
    first: int = 1,
) -> mx.array:
    """Combines the items of every window, dimension by dimension, the last one first."""
    for axis in reversed(range(len(positions))):
        parts = items(x, first + axis, positions[axis], fill)
        x = parts[0]
        for part in parts[1:]:
            x = combine(x, part)
    return x


def later_wins(candidate: mx.array, best: mx.array) -> mx.array:
    """Whether a later item replaces the maximum so far: only a larger one, or NaN."""
    return (candidate > best) | (candidate != candidate)


def max_windows(
    x: mx.array, positions: Sequence[Positions], first: int = 1
) -> tuple[mx.array, mx.array]:
    """Maxima of windows and where they are: flat indices into the spatial dimensions."""
    rank = len(positions)
    spatial = x.shape[first : first + rank]
    index = mx.arange(int(np.prod(spatial))).reshape(*spatial, 1)
    index = mx.broadcast_to(index, x.shape)
    lowest = -mx.inf if mx.issubdtype(x.dtype, mx.floating) else int(np.iinfo(np.int32).min)
    for axis in reversed(range(rank)):
        values = items(x, first + axis, positions[axis], lowest)
        places = items(index, first + axis, positions[axis], 0)
        x, index = values[0], places[0]
        for value, place in zip(values[1:], places[1:], strict=True):
            wins = later_wins(value, x)
            x, index = mx.where(wins, value, x), mx.where(wins, place, index)
    return x, index
