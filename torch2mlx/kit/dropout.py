"""Dropout of items, channels, and alpha dropout; channels-last."""

from __future__ import annotations

import math

import mlx.core as mx

_ALPHA = -1.7580993408473766  # selu's value at minus infinity


def _drawn(x: mx.array, p: float, by_channel: bool) -> mx.array:
    """A mask of kept items; for channels (N, 1, ..., 1, C), or (1, ..., 1, C) without a batch."""
    shape = x.shape
    if by_channel:
        shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return mx.random.bernoulli(1 - p, shape)


def dropout(x: mx.array, p: float = 0.5, training: bool = False) -> mx.array:
    """Zeros items with probability p and scales the others by 1 / (1 - p); p may be 1."""
    if not training or p == 0:
        return x
    kept = _drawn(x, p, False)
    return mx.where(kept, x / (1 - p) if p < 1 else mx.zeros_like(x), mx.zeros_like(x))


def channel_dropout(x: mx.array, p: float = 0.5, training: bool = False) -> mx.array:
    """torch's dropout1d/2d/3d: zeros whole channels of (N, *spatial, C)."""
    if not training or p == 0:
        return x
    kept = _drawn(x, p, True)
    return mx.where(kept, x / (1 - p) if p < 1 else mx.zeros_like(x), mx.zeros_like(x))


def _alpha(x: mx.array, p: float, by_channel: bool) -> mx.array:
    if p == 1:
        return mx.zeros_like(x)
    a = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2))
    kept = _drawn(x, p, by_channel)
    return a * mx.where(kept, x, mx.array(_ALPHA, x.dtype)) - a * _ALPHA * p


def alpha_dropout(x: mx.array, p: float = 0.5, training: bool = False) -> mx.array:
    """Dropout that keeps mean and variance of selu's outputs."""
    return _alpha(x, p, False) if training and p > 0 else x


def feature_alpha_dropout(x: mx.array, p: float = 0.5, training: bool = False) -> mx.array:
    """alpha_dropout of whole channels of (N, *spatial, C)."""
    return _alpha(x, p, True) if training and p > 0 else x
