"""Pooling with torch's options, on channels-last data (N, *spatial, C) or (*spatial, C)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from torch2mlx.kit.precision import in_float32
from torch2mlx.kit.windows import (
    Positions,
    Size,
    adaptive,
    inside,
    later_wins,
    max_windows,
    reduce_windows,
    sizes,
    sliding,
)


def _first(x: mx.array, rank: int) -> int:
    """Where the spatial dimensions begin: after the batch, which may be absent."""
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"expected {rank + 2} dimensions (N, *spatial, C), got {x.ndim}")
    return x.ndim - rank - 1


def _windows(x, rank, kernel, stride, padding, dilation, ceil_mode) -> list[Positions]:
    kernels = sizes(kernel, rank)
    strides = sizes(stride, rank, kernels)
    pads, dilations = sizes(padding, rank), sizes(dilation, rank)
    if any(2 * pad > k for pad, k in zip(pads, kernels, strict=True)):
        raise ValueError(f"padding {pads} is more than half of the kernel {kernels}")
    first = _first(x, rank)
    lengths = x.shape[first : first + rank]
    options = zip(lengths, kernels, strides, pads, dilations, strict=True)
    return [sliding(*option, ceil_mode) for option in options]


def _maxima(x: mx.array, windows: Sequence[Positions], indices: bool):
    first = x.ndim - len(windows) - 1
    if indices:
        return max_windows(x, windows, first)
    choose: Callable = lambda best, item: mx.where(later_wins(item, best), item, best)  # noqa: E731
    return reduce_windows(x, windows, -mx.inf, choose, first)


def max_pool(
    x: mx.array,
    rank: int,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
):
    """torch's max_pool1d/2d/3d by `rank`; indices are flat in the spatial dimensions."""
    windows = _windows(x, rank, kernel_size, stride, padding, dilation, ceil_mode)
    return _maxima(x, windows, return_indices)


def _divisor(x: mx.array, windows: Sequence[Positions], pads: Sequence[int]) -> mx.array:
    """Items that each window counts: those in the input widened by `pads`."""
    first = x.ndim - len(windows) - 1
    total = np.ones(())
    for axis, (window, pad) in enumerate(zip(windows, pads, strict=True)):
        length = x.shape[first + axis]
        counted = inside(window + pad, length + 2 * pad).sum(1)
        total = np.multiply.outer(total, counted)
    return mx.array(total[..., None].astype(np.float32)).astype(x.dtype)


@in_float32
def avg_pool(
    x: mx.array,
    rank: int,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> mx.array:
    """torch's avg_pool1d/2d/3d by `rank`."""
    windows = _windows(x, rank, kernel_size, stride, padding, 1, ceil_mode)
    total = reduce_windows(x, windows, 0, mx.add, _first(x, rank))
    if divisor_override:
        return total / divisor_override
    pads = sizes(padding, rank) if count_include_pad else (0,) * rank
    return total / _divisor(x, windows, pads)


@in_float32
def lp_pool(
    x: mx.array,
    rank: int,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> mx.array:
    """torch's lp_pool: the sum of x**p over a window, to the power of 1/p.

    Windows that ceil_mode lets reach past the end are scaled up to a full one, as in torch.
    """
    kernels = sizes(kernel_size, rank)
    mean = avg_pool(mx.power(x, norm_type), rank, kernels, stride, 0, ceil_mode)
    total = mx.sign(mean) * mx.maximum(mx.abs(mean), 0) * math.prod(kernels)
    return mx.power(total, 1 / norm_type)


def _targets(x: mx.array, rank: int, output_size) -> list[tuple[int, int]]:
    """(length, outputs) of each spatial dimension; None keeps a length."""
    first = _first(x, rank)
    same = output_size is None or isinstance(output_size, int)
    wanted = (output_size,) * rank if same else output_size
    lengths = x.shape[first : first + rank]
    return [(n, n if out is None else out) for n, out in zip(lengths, wanted, strict=True)]


def adaptive_avg_pool(x: mx.array, rank: int, output_size) -> mx.array:
    """torch's adaptive_avg_pool1d/2d/3d by `rank`: one averaging matrix for each dimension."""
    first = _first(x, rank)
    for axis, (length, outputs) in enumerate(_targets(x, rank, output_size)):
        if length == outputs:
            continue
        weights = np.zeros((outputs, length), np.float32)
        for row in range(outputs):
            start, end = row * length // outputs, -(-(row + 1) * length // outputs)
            weights[row, start:end] = 1 / (end - start)
        moved = mx.moveaxis(x, first + axis, -1) @ mx.array(weights.T).astype(x.dtype)
        x = mx.moveaxis(moved, -1, first + axis)
    return x


def adaptive_max_pool(x: mx.array, rank: int, output_size, return_indices: bool = False):
    """torch's adaptive_max_pool1d/2d/3d by `rank`."""
    windows = [adaptive(length, outputs) for length, outputs in _targets(x, rank, output_size)]
    return _maxima(x, windows, return_indices)


def max_unpool(x: mx.array, indices: mx.array, rank: int, output_size: Sequence[int]) -> mx.array:
    """torch's max_unpool1d/2d/3d by `rank`: each value to its flat index, zero elsewhere."""
    first = _first(x, rank)
    lead, channels = x.shape[:first], x.shape[-1]
    count = math.prod(output_size)
    flat = x.reshape(*lead, -1, channels)
    places = mx.stop_gradient(indices).reshape(*lead, -1, channels)
    filled = mx.put_along_axis(mx.zeros((*lead, count, channels), x.dtype), places, flat, axis=-2)
    return filled.reshape(*lead, *output_size, channels)


def unpool_size(
    shape: Sequence[int], rank: int, kernel_size: Size, stride: Size | None, padding: Size
) -> tuple[int, ...]:
    """The size that torch unpools to by default."""
    kernels = sizes(kernel_size, rank)
    strides, pads = sizes(stride, rank, kernels), sizes(padding, rank)
    options = zip(shape[-1 - rank : -1], kernels, strides, pads, strict=True)
    return tuple((n - 1) * s - 2 * p + k for n, k, s, p in options)


def fractional_max_pool(
    x: mx.array,
    rank: int,
    kernel_size: Size,
    output_size: Sequence[int],
    samples: mx.array | None = None,
    return_indices: bool = False,
):
    """torch's fractional_max_pool2d/3d by `rank`.

    `samples`: (N, C, rank) in [0, 1), where the windows of each plane begin; drawn when absent.
    Its last dimension is (width, height) for two spatial dimensions and (depth, height, width) for
    three, as torch reads it.
    """
    kernels = sizes(kernel_size, rank)
    batch, channels = x.shape[0], x.shape[-1]
    lengths = x.shape[1:-1]
    if samples is None:
        samples = mx.random.uniform(shape=(batch, channels, rank))
    flat = mx.moveaxis(x, -1, 1).reshape(batch, channels, -1)
    place = mx.zeros((batch, channels, 1), mx.int32)
    for axis in range(rank):
        u = samples[..., rank - 1 - axis if rank == 2 else axis]
        starts = _fractional_starts(lengths[axis], kernels[axis], output_size[axis], u)
        window = starts[..., None] + mx.arange(kernels[axis])
        place = place[..., None] * lengths[axis] + window.reshape(batch, channels, 1, -1)
        place = place.reshape(batch, channels, -1)
    values = mx.take_along_axis(flat, place, axis=2)
    shape = [n for pair in zip(output_size, kernels, strict=True) for n in pair]
    order = [0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2)]
    gather = lambda t: t.reshape(batch, channels, *shape).transpose(order)  # noqa: E731
    values, place = gather(values), gather(place)
    values = values.reshape(batch, channels, *output_size, -1)
    best = mx.stop_gradient(mx.argmax(values, axis=-1, keepdims=True))
    pooled = mx.moveaxis(mx.take_along_axis(values, best, axis=-1)[..., 0], 1, -1)
    if not return_indices:
        return pooled
    places = mx.take_along_axis(place.reshape(values.shape), best, axis=-1)[..., 0]
    return pooled, mx.moveaxis(places, 1, -1)


def _fractional_starts(length: int, kernel: int, outputs: int, u: mx.array) -> mx.array:
    """First positions of windows, (N, C, outputs): Graham's pseudorandom sequence."""
    if outputs == 1:
        return mx.full((*u.shape, 1), length - kernel, mx.int32)
    step = (length - kernel) / (outputs - 1)
    at = mx.arange(outputs - 1).astype(mx.float32) + u[..., None]
    starts = (at * step).astype(mx.int32) - (u[..., None] * step).astype(mx.int32)
    last = mx.full((*u.shape, 1), length - kernel, mx.int32)
    return mx.concatenate([starts, last], axis=-1)


def fractional_max_pool_layer(
    x: mx.array,
    rank: int,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    samples: mx.array | None = None,
):
    """The layer: its output size may be a share of the input's."""
    if output_size is None:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else [output_ratio] * rank
        output_size = [int(n * r) for n, r in zip(x.shape[1:-1], ratios, strict=True)]
    targets = sizes(output_size, rank)
    return fractional_max_pool(x, rank, kernel_size, targets, samples, return_indices)


def max_unpool_layer(
    x: mx.array,
    indices: mx.array,
    rank: int,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
):
    """The layer: the output size follows from its window unless given, (*spatial,)."""
    if output_size is None:
        output_size = unpool_size(x.shape, rank, kernel_size, stride, padding)
    return max_unpool(x, indices, rank, output_size)
