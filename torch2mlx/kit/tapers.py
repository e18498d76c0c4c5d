"""torch's windows of signals: numbers that rise from the ends to the middle of a frame."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

from torch2mlx.kit import bessel


def _cosines(length: int, periodic: bool, weights: tuple[float, ...], dtype: Any) -> mx.array:
    if length == 1:
        return mx.ones((1,), dtype or mx.float32)
    turn = mx.arange(length) * (2 * math.pi / (length if periodic else length - 1))
    waves = [weight * mx.cos(i * turn) for i, weight in enumerate(weights)]
    total = waves[0]
    for wave in waves[1:]:
        total = total + wave
    return total.astype(dtype or mx.float32)


def hann_window(window_length: int, periodic: bool = True, dtype: Any = None) -> mx.array:
    """torch.hann_window: (window_length,), float32 unless told otherwise."""
    return _cosines(window_length, periodic, (0.5, -0.5), dtype)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    dtype: Any = None,
) -> mx.array:
    """torch.hamming_window: (window_length,), float32 unless told otherwise."""
    return _cosines(window_length, periodic, (alpha, -beta), dtype)


def blackman_window(window_length: int, periodic: bool = True, dtype: Any = None) -> mx.array:
    """torch.blackman_window: (window_length,), float32 unless told otherwise."""
    return _cosines(window_length, periodic, (0.42, -0.5, 0.08), dtype)


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, dtype: Any = None
) -> mx.array:
    """torch.kaiser_window: (window_length,), float32 unless told otherwise."""
    if window_length == 1:
        return mx.ones((1,), dtype or mx.float32)
    half = (window_length if periodic else window_length - 1) / 2
    inside = mx.maximum(1 - mx.square(mx.arange(window_length) / half - 1), 0)
    wave = bessel.i0(beta * mx.sqrt(inside)) / bessel.i0(mx.array(beta))
    return wave.astype(dtype or mx.float32)
