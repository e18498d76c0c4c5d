"""Padding of channels-last data: constant, reflect, replicate, circular; negative widths crop."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx


def _crop(x: mx.array, axis: int, before: int, after: int) -> mx.array:
    start, end = max(-before, 0), x.shape[axis] - max(-after, 0)
    if start > end:
        raise ValueError(
            f"axis {axis} has {x.shape[axis]} items, fewer than ({before}, {after}) takes away"
        )
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, end)
    return x[tuple(index)]


def _wrap(x: mx.array, axis: int, before: int, after: int) -> mx.array:
    length = x.shape[axis]
    if before > length or after > length:
        raise ValueError(f"circular padding ({before}, {after}) is longer than the {length} items")
    return mx.take(x, mx.arange(-before, length + after) % length, axis=axis)


def _widen(x: mx.array, widths: list[tuple[int, int]], mode: str, value: float) -> mx.array:
    if mode == "constant":
        return mx.pad(x, widths, constant_values=mx.array(value, x.dtype))
    if mode == "replicate":
        return mx.pad(x, widths, mode="edge")
    for axis, (before, after) in enumerate(widths):
        if mode == "reflect" and max(before, after) >= x.shape[axis] and (before or after):
            raise ValueError(f"reflection of {x.shape[axis]} items cannot pad ({before}, {after})")
    if mode == "reflect":
        return mx.pad(x, widths, mode="reflect")
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = _wrap(x, axis, before, after)
    return x


def pad_axes(
    x: mx.array, widths: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0
) -> mx.array:
    """Pads each axis by (before, after). `mode`: constant, reflect, replicate or circular."""
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(f"mode={mode!r}: choose constant, reflect, replicate or circular")
    for axis, (before, after) in enumerate(widths):
        if before < 0 or after < 0:
            x = _crop(x, axis, before, after)
    grown = [(max(before, 0), max(after, 0)) for before, after in widths]
    return _widen(x, grown, mode, value) if any(map(any, grown)) else x


def pad(x: mx.array, widths: Sequence[int], mode: str = "constant", value: float = 0.0) -> mx.array:
    """torch.nn.functional.pad in x's own layout: pairs from the last axis backwards."""
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)]
    return pad_axes(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1], mode, value)


def pad_spatial(
    x: mx.array, widths: Sequence[int], mode: str = "constant", value: float = 0.0
) -> mx.array:
    """The same for channels-last data: the pairs are of the spatial axes, last one first."""
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)][::-1]
    lead = x.ndim - 1 - len(pairs)
    return pad_axes(x, [(0, 0)] * lead + pairs + [(0, 0)], mode, value)
