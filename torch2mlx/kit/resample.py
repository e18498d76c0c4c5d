"""Resizing and sampling of channels-last images: interpolate, grid_sample, affine_grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit.pooling import adaptive_avg_pool
from torch2mlx.kit.precision import in_float32

#: mode -> how one axis is computed, and how many axes an image has.
_MODES = {
    "nearest": ("nearest", (1, 2, 3)),
    "nearest-exact": ("nearest-exact", (1, 2, 3)),
    "linear": ("linear", (1,)),
    "bilinear": ("linear", (2,)),
    "trilinear": ("linear", (3,)),
    "bicubic": ("cubic", (2,)),
    "area": ("area", (1, 2, 3)),
}
_SMALL = 128
_CUBIC = -0.75  # the kernel's parameter in torch; with antialias it is -0.5, as in PIL


def cubic_weights(t, a: float = _CUBIC):
    """Weights of the four neighbours at distances 1 + t, t, 1 - t, 2 - t (numpy or mlx)."""
    near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1  # noqa: E731
    far = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a  # noqa: E731
    return far(1 + t), near(t), near(1 - t), far(2 - t)


def _source(out: int, length: int, scale: float, align: bool) -> np.ndarray:
    """Where each output lies in the input, in float32, as torch computes it."""
    at = np.arange(out, dtype=np.float32)
    if align:
        step = np.float32((length - 1) / (out - 1)) if out > 1 else np.float32(0)
        return at * step
    return (at + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)


def _antialias(out: int, length: int, scale: float, mode: str, align: bool) -> np.ndarray:
    """Rows of weights whose support grows with the scale, so that nothing is skipped."""
    if align:
        scale = (length - 1) / (out - 1) if out > 1 else 0.0
    reach = (1.0 if mode == "linear" else 2.0) * max(scale, 1.0)
    invscale = 1 / scale if scale >= 1 else 1.0
    rows = np.zeros((out, length))
    for i in range(out):
        center = scale * (i + 0.5)
        low, high = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), length)
        d = np.abs((np.arange(low, high) - center + 0.5) * invscale)
        if mode == "linear":
            w = np.maximum(1 - d, 0)
        else:
            a = -0.5
            w = np.where(
                d < 1, ((a + 2) * d - (a + 3)) * d * d + 1, (((d - 5) * d + 8) * d - 4) * a
            )
            w = np.where(d < 2, w, 0)
        rows[i, low:high] = w / w.sum()
    return rows


def resize_matrix(
    length: int, out: int, mode: str, align: bool, scale: float | None, antialias: bool
) -> np.ndarray:
    """The linear map of one axis, (out, length)."""
    ratio = 1 / scale if scale else length / out
    if out == length and (antialias or mode == "linear"):
        return np.eye(out)  # torch copies, whatever the scale
    if antialias:
        return _antialias(out, length, ratio, mode, align)
    rows = np.zeros((out, length))
    index = np.arange(out)
    at = _source(out, length, ratio, align)
    if mode == "linear":
        at = np.maximum(at, 0)
        low = np.minimum(np.floor(at).astype(int), length - 1)
        t = at - low
        np.add.at(rows, (index, low), 1 - t)
        np.add.at(rows, (index, np.minimum(low + 1, length - 1)), t)
        return rows
    low = np.floor(at).astype(int)
    for j, w in enumerate(cubic_weights(at - low)):
        np.add.at(rows, (index, np.clip(low - 1 + j, 0, length - 1)), w)
    return rows


def _nearest(length: int, out: int, exact: bool, scale: float | None, small: bool) -> np.ndarray:
    if small and not exact and out in (length, 2 * length):
        return np.arange(out) * length // out
    ratio = np.float32(1 / scale if scale else length / out)
    at = np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0)
    return np.minimum(np.floor(at * ratio).astype(int), length - 1)


def _each(given: float | Sequence[float], rank: int, name: str) -> list[Any]:
    """A number for each axis of an image."""
    numbers = list(given) if isinstance(given, Sequence) else [given] * rank
    if len(numbers) != rank:
        raise ValueError(f"{name} has {len(numbers)} numbers for {rank} spatial axes")
    return numbers


def _sizes(
    x: mx.array,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute_scale_factor: bool | None,
) -> tuple[list[int], list[float | None]]:
    """How long each axis becomes, and the scale that it is computed with where that is given."""
    spatial = x.shape[1:-1]
    none: list[float | None] = [None] * len(spatial)
    if (size is None) == (scale_factor is None):
        raise ValueError("give either size or scale_factor")
    if size is not None and recompute_scale_factor:
        raise ValueError("recompute_scale_factor is for a scale_factor, and size is given")
    if scale_factor is None:
        return _each(size or 0, len(spatial), "size"), none
    factors = _each(scale_factor, len(spatial), "scale_factor")
    target = [math.floor(n * f) for n, f in zip(spatial, factors, strict=True)]
    return target, none if recompute_scale_factor else factors


def _asked(mode: str, rank: int, align_corners: bool | None, antialias: bool) -> str:
    """How one axis is computed. Raises ValueError for what torch has not either."""
    kind, ranks = _MODES.get(mode, ("", ()))
    if rank not in ranks:
        known = ", ".join(name for name, (_, ranks) in _MODES.items() if rank in ranks)
        raise ValueError(f"mode={mode!r} for {rank} spatial axes: choose one of {known}")
    if align_corners is not None and kind not in ("linear", "cubic"):
        raise ValueError(f"mode={mode!r} has no align_corners: leave it out")
    if antialias and (rank != 2 or kind not in ("linear", "cubic")):
        raise ValueError(f"mode={mode!r} has no antialias: bilinear and bicubic have")
    return kind


@in_float32
def interpolate(
    x: mx.array,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> mx.array:
    """torch.nn.functional.interpolate. x: (N, *spatial, C), all modes; one axis after the other.

    Raises ValueError where torch has no such mode, size or option.
    """
    kind = _asked(mode, x.ndim - 2, align_corners, antialias)
    target, scales = _sizes(x, size, scale_factor, recompute_scale_factor)
    if kind == "area":
        return adaptive_avg_pool(x, x.ndim - 2, target)
    if min((*x.shape[1:-1], *target)) <= 0:
        became = f"{tuple(x.shape[1:-1])} becomes {tuple(target)}"
        raise ValueError(f"an image of {became}: only mode='area' takes an empty axis")
    # torch's kernel for small pictures does not ask for the scale where a side stays or doubles
    small = len(target) == 2 and sum(target) <= _SMALL
    if antialias and target[1] == 1 < target[0] != x.shape[1]:
        raise ValueError("antialias to a width of 1: torch answers its first row in all rows")
    for axis, (out, scale) in enumerate(zip(target, scales, strict=True), start=1):
        length = x.shape[axis]
        if kind.startswith("nearest"):
            at = _nearest(length, out, kind == "nearest-exact", scale, small)
            x = mx.take(x, mx.array(at), axis=axis)
        else:
            rows = resize_matrix(length, out, kind, bool(align_corners), scale, antialias)
            weights = mx.array(rows.T.astype(np.float32)).astype(x.dtype)
            x = mx.moveaxis(mx.moveaxis(x, axis, -1) @ weights, -1, axis)
    return x


def affine_grid(theta: mx.array, size: Sequence[int], align_corners: bool = False) -> mx.array:
    """torch.nn.functional.affine_grid. theta (N, 2, 3) or (N, 3, 4); `size` is (N, *spatial, C)."""
    spatial = list(size[1:-1])
    axes = []
    for n in spatial:
        line = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        axes.append(line if align_corners else line * (n - 1) / n)
    mesh = np.meshgrid(*axes, indexing="ij")[::-1]
    base = np.stack([*mesh, np.ones(spatial)], axis=-1).reshape(1, -1, len(spatial) + 1)
    grid = mx.array(base.astype(np.float32)).astype(theta.dtype) @ theta.swapaxes(1, 2)
    return grid.reshape(theta.shape[0], *spatial, len(spatial))


def _reflect(at: mx.array, length: int, align: bool) -> mx.array:
    low, high = (0.0, length - 1.0) if align else (-0.5, length - 0.5)
    span = high - low
    if span == 0:
        return mx.zeros_like(at)
    off = mx.abs(at - low)
    turns = mx.floor(off / span)
    rest = off - turns * span
    back = mx.where(mx.remainder(turns, 2) == 0, rest + low, span - rest + low)
    return mx.clip(back, 0, length - 1)


def _place(at: mx.array, length: int, padding_mode: str, align: bool) -> mx.array:
    if padding_mode == "border":
        return mx.clip(at, 0, length - 1)
    return _reflect(at, length, align) if padding_mode == "reflection" else at


def _pick(x: mx.array, corner: Sequence[mx.array]) -> mx.array:
    """Pixels at whole coordinates, zero outside. x: (N, *spatial, C) -> (N, *grid, C)."""
    spatial, shape = x.shape[1:-1], corner[0].shape
    valid: Any = None
    flat: Any = 0
    for at, n in zip(corner, spatial, strict=True):
        here = (at >= 0) & (at <= n - 1)
        valid = here if valid is None else valid & here
        flat = flat * n + mx.clip(at, 0, n - 1).astype(mx.int32)
    pixels = x.reshape(x.shape[0], -1, x.shape[-1])
    index = mx.stop_gradient(flat.reshape(shape[0], -1, 1))
    found = mx.take_along_axis(pixels, mx.broadcast_to(index, (*index.shape[:2], x.shape[-1])), 1)
    return found.reshape(*shape, x.shape[-1]) * valid[..., None].astype(x.dtype)


def _linear_sample(x: mx.array, at: Sequence[mx.array]) -> mx.array:
    base = [mx.floor(a) for a in at]
    total: Any = 0.0
    for bits in np.ndindex(*(2,) * len(at)):
        weight: Any = 1.0
        for bit, a, low in zip(bits, at, base, strict=True):
            weight = weight * (a - low if bit else low + 1 - a)
        corner = [low + bit for bit, low in zip(bits, base, strict=True)]
        total = total + _pick(x, corner) * weight[..., None]
    return total


def _cubic_sample(x: mx.array, at: Sequence[mx.array], padding_mode: str, align: bool) -> mx.array:
    base = [mx.floor(a) for a in at]
    rows, columns = (cubic_weights(a - low) for a, low in zip(at, base, strict=True))
    total: Any = 0.0
    for i, j in np.ndindex(4, 4):
        corner = [base[0] + (i - 1), base[1] + (j - 1)]
        sizes = x.shape[1:-1]
        placed = [_place(c, n, padding_mode, align) for c, n in zip(corner, sizes, strict=True)]
        total = total + _pick(x, placed) * (rows[i] * columns[j])[..., None]
    return total


@in_float32
def grid_sample(
    x: mx.array,
    grid: mx.array,
    mode: str | int = "bilinear",
    padding_mode: str | int = "zeros",
    align_corners: bool = False,
) -> mx.array:
    """torch.nn.functional.grid_sample. x: (N, *spatial, C), grid: (N, *out, rank), last axis first.

    Answers (N, *out, C). Modes bilinear, nearest and (two spatial dimensions) bicubic; padding
    zeros, border, reflection; also by their places in these lists, as torch.grid_sampler has them.
    """
    rank = x.ndim - 2
    mode = ("bilinear", "nearest", "bicubic")[mode] if isinstance(mode, int) else mode
    if isinstance(padding_mode, int):
        padding_mode = ("zeros", "border", "reflection")[padding_mode]
    if mode not in ("bilinear", "nearest", "bicubic") or (mode == "bicubic" and rank != 2):
        raise ValueError(f"mode={mode!r} for {rank} spatial dimensions")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"padding_mode={padding_mode!r}: choose zeros, border or reflection")
    at = []
    for axis, n in enumerate(x.shape[1:-1]):
        g = grid[..., rank - 1 - axis]
        at.append((g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2)
    if mode == "bicubic":
        return _cubic_sample(x, at, padding_mode, align_corners)
    placed = [
        _place(a, n, padding_mode, align_corners) for a, n in zip(at, x.shape[1:-1], strict=True)
    ]
    if mode == "nearest":
        return _pick(x, [mx.round(a) for a in placed])
    return _linear_sample(x, placed)
