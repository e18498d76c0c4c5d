"""Sums, means and variances over long rows, and the norms made of them.

On the CPU, MLX adds up a row from one end to the other: over a million items with a mean of 100, a
hundredth of the sum is lost. Sums in blocks are as exact as torch's; variances are taken about the
mean.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

#: Rows up to this length are added up at once, longer ones in blocks.
_LONG = 8192
_BLOCK = 1024
_HALF = (mx.float16, mx.bfloat16)


def _axes(x: mx.array, axis: Any) -> list[int]:
    """Axes that are reduced, in order; all of them for None and for ()."""
    if axis is None or axis == ():
        return list(range(x.ndim))
    return sorted(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))


def _row(x: mx.array, axis: int) -> mx.array:
    """The sum along one axis, which stays, in blocks where it is long."""
    length = x.shape[axis]
    if length <= _LONG:
        return mx.sum(x, axis=axis, keepdims=True)
    count = length // _BLOCK
    head, rest = mx.split(x, [count * _BLOCK], axis=axis)
    blocks = mx.unflatten(head, axis, (count, _BLOCK))
    total = _row(mx.sum(blocks, axis=axis + 1), axis)
    return total + mx.sum(rest, axis=axis, keepdims=True)


def total(x: mx.array, axis: Any = None, keepdims: bool = False) -> mx.array:
    """torch.sum over axes, one after the other, long ones in blocks."""
    found, axes = x.astype(mx.float32) if x.dtype in _HALF else x, _axes(x, axis)
    for one in reversed(axes):
        found = _row(found, one)
    found = found if keepdims else mx.squeeze(found, axes)
    return found.astype(x.dtype) if x.dtype in _HALF else found


def mean(x: mx.array, axis: Any = None, keepdims: bool = False) -> mx.array:
    """torch.mean over axes."""
    count = math.prod(x.shape[a] for a in _axes(x, axis))
    if x.dtype in _HALF:
        return mean(x.astype(mx.float32), axis, keepdims).astype(x.dtype)
    return total(x, axis, keepdims) / (count or mx.nan)


def centred(x: mx.array, axis: Any) -> mx.array:
    """x without its mean over axes; taken twice, since the first mean is rounded."""
    x = x - mean(x, axis, True)
    return x - mean(x, axis, True)


def var(x: mx.array, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> mx.array:
    """torch.var over axes, about the mean; NaN of one item with `ddof` 1. Of complex numbers it is
    the sum of both parts'."""
    if x.dtype == mx.complex64:
        real, imaginary = (var(part, axis, keepdims, ddof) for part in (mx.real(x), mx.imag(x)))
        return real + imaginary
    if x.dtype in _HALF:
        return var(x.astype(mx.float32), axis, keepdims, ddof).astype(x.dtype)
    count = math.prod(x.shape[a] for a in _axes(x, axis)) - ddof
    squares = total(mx.square(centred(x, axis)), axis, keepdims)
    return squares / (count if count > 0 else mx.array(0, x.dtype))


def std(x: mx.array, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> mx.array:
    """torch.std over axes; its gradient is 0 where it is 0."""
    spread = var(x, axis, keepdims, ddof)
    return mx.where(spread > 0, mx.sqrt(mx.where(spread > 0, spread, 1)), spread)


def normalized(x: mx.array, axis: Any, eps: float) -> mx.array:
    """Mean 0 and variance 1 over axes, in float32 inside."""
    wide = x.astype(mx.float32) if x.dtype in _HALF else x
    y = centred(wide, axis)
    return (y * mx.rsqrt(mean(mx.square(y), axis, True) + eps)).astype(x.dtype)


def layer_norm(x: mx.array, weight: mx.array | None, bias: mx.array | None, eps: float) -> mx.array:
    """mx.fast.layer_norm over the last axis, exact for long rows too."""
    if x.shape[-1] <= _LONG:
        return mx.fast.layer_norm(x, weight, bias, eps)
    y = normalized(x, -1, eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def group_norm(
    x: mx.array,
    num_groups: int,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """torch.nn.functional.group_norm of (N, ..., C).

    Raises ValueError for channels that the groups do not divide.
    """
    batch, *spatial, channels = x.shape
    if channels % num_groups:
        raise ValueError(f"{num_groups} groups do not divide {channels} channels")
    shape = (batch, math.prod(spatial), num_groups, channels // num_groups)
    parts = x.reshape(shape)
    if shape[1] * shape[3] <= _LONG:
        flat = parts.swapaxes(1, 2).reshape(batch, num_groups, shape[1] * shape[3])
        turned = (batch, num_groups, shape[1], shape[3])
        y = mx.fast.layer_norm(flat, None, None, eps).reshape(turned).swapaxes(1, 2)
    else:
        y = normalized(parts, (1, 3), eps)
    y = y.reshape(x.shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
