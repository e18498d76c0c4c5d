"""Moving pixels and channels, channels-last: pixel_shuffle, channel_shuffle, fold, unfold."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from torch2mlx.kit.precision import in_float32
from torch2mlx.kit.windows import Size, items, sizes, sliding


def pixel_shuffle(x: mx.array, upscale_factor: int) -> mx.array:
    """torch's pixel_shuffle: (..., H, W, C * r * r) -> (..., H * r, W * r, C)."""
    r = upscale_factor
    *lead, height, width, channels = x.shape
    y = x.reshape(-1, height, width, channels // (r * r), r, r)
    y = y.transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(*lead, height * r, width * r, channels // (r * r))


def pixel_unshuffle(x: mx.array, downscale_factor: int) -> mx.array:
    """torch's pixel_unshuffle: (..., H * r, W * r, C) -> (..., H, W, C * r * r)."""
    r = downscale_factor
    *lead, height, width, channels = x.shape
    y = x.reshape(-1, height // r, r, width // r, r, channels)
    y = y.transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(*lead, height // r, width // r, channels * r * r)


def channel_shuffle(x: mx.array, groups: int) -> mx.array:
    """torch's channel_shuffle: the last axis as (groups, C / groups), turned."""
    *lead, channels = x.shape
    return x.reshape(*lead, groups, channels // groups).swapaxes(-1, -2).reshape(x.shape)


def unfold(
    x: mx.array, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> mx.array:
    """torch's unfold: (N, H, W, C) -> (N, blocks, C * kH * kW), columns in torch's order."""
    options = (sizes(v, 2) for v in (kernel_size, stride, padding, dilation))
    rows, columns = (
        sliding(n, size, step, pad, gap, False)
        for n, (size, step, pad, gap) in zip(x.shape[1:3], zip(*options, strict=True), strict=True)
    )
    parts = [part for line in items(x, 1, rows, 0) for part in items(line, 2, columns, 0)]
    stacked = mx.stack(parts, axis=-1)  # (N, h, w, C, kH * kW)
    return stacked.reshape(x.shape[0], -1, x.shape[-1] * len(parts))


@in_float32
def fold(
    x: mx.array,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> mx.array:
    """torch's fold: (N, blocks, C * kH * kW) -> (N, H, W, C); what overlaps is added."""
    out, kernel = sizes(output_size, 2), sizes(kernel_size, 2)
    pads = sizes(padding, 2)
    options = zip(out, kernel, sizes(stride, 2), pads, sizes(dilation, 2), strict=True)
    rows, columns = (sliding(*option, False) for option in options)
    wide = (out[0] + 2 * pads[0], out[1] + 2 * pads[1])
    flat = (rows + pads[0])[:, None, :, None] * wide[1] + (columns + pads[1])[None, :, None, :]
    place = mx.array(flat.reshape(-1).astype(np.int32))
    batch, channels = x.shape[0], x.shape[-1] // (kernel[0] * kernel[1])
    values = x.reshape(batch, rows.shape[0] * columns.shape[0], channels, -1)
    values = values.swapaxes(2, 3).reshape(batch, -1, channels)
    total = mx.zeros((batch, wide[0] * wide[1], channels), x.dtype).at[:, place].add(values)
    total = total.reshape(batch, *wide, channels)
    return total[:, pads[0] : pads[0] + out[0], pads[1] : pads[1] + out[1]]


def flatten(x: mx.array, start_axis: int = 1, end_axis: int = -1) -> mx.array:
    """torch's flatten, in the order of the axes as they are."""
    return mx.flatten(x, start_axis, end_axis)


def unflatten(x: mx.array, axis: int, shape: tuple[int, ...]) -> mx.array:
    """torch's unflatten: one axis as several."""
    return mx.unflatten(x, axis, shape)
