"""Bessel functions, elementwise, as torch.special has them; and erfcx and log_ndtr.

Whole numbers are computed as float32, and half formats in float32. Functions of the first and
second kind and i0, i0e, i1, i1e, erfcx and log_ndtr agree with torch's to rounding; those that
torch can differentiate have a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx

from torch2mlx.kit import chebyshev as table
from torch2mlx.kit.chebyshev import chebyshev
from torch2mlx.kit.gamma import derived, in_full


def _i0e(x: mx.array) -> mx.array:
    y = mx.abs(x)
    near = chebyshev(mx.minimum(y, 8) / 4 - 1, table.I0_NEAR)
    far = mx.maximum(y, 8)
    return mx.where(y <= 8, near, chebyshev(16 / far - 1, table.I0_FAR) / mx.sqrt(far))


def _i1e(x: mx.array) -> mx.array:
    y = mx.abs(x)
    near = y * chebyshev(mx.minimum(y, 8) / 4 - 1, table.I1_NEAR)
    far = mx.maximum(y, 8)
    size = mx.where(y <= 8, near, chebyshev(16 / far - 1, table.I1_FAR) / mx.sqrt(far))
    return mx.where(x < 0, -size, size)


def _grown(x: mx.array, scaled: mx.array) -> mx.array:
    """scaled * exp(|x|), which may be finite where exp(|x|) is not."""
    half = mx.exp(mx.abs(x) / 2)
    return scaled * half * half


def i0(x: mx.array) -> mx.array:
    """torch.i0: the modified Bessel function of the first kind, of order 0."""
    return derived(lambda x: _grown(x, _i0e(x)), i1)(x)


def i0e(x: mx.array) -> mx.array:
    """torch.special.i0e: exp(-|x|) i0(x)."""
    return derived(_i0e, lambda x: i1e(x) - mx.sign(x) * i0e(x))(x)


def i1(x: mx.array) -> mx.array:
    """torch.special.i1: the modified Bessel function of the first kind, of order 1."""

    def slope(x: mx.array) -> mx.array:
        safe = mx.where(x == 0, 1, x)
        return mx.where(x == 0, 0.5, i0(x) - i1(safe) / safe).astype(x.dtype)

    return derived(lambda x: _grown(x, _i1e(x)), slope)(x)


def i1e(x: mx.array) -> mx.array:
    """torch.special.i1e: exp(-|x|) i1(x)."""

    def slope(x: mx.array) -> mx.array:
        safe = mx.where(x == 0, 1, x)
        found = i0e(x) - i1e(safe) * (mx.sign(x) + 1 / safe)
        return mx.where(x == 0, 0.5, found).astype(x.dtype)

    return derived(_i1e, slope)(x)


def _ke(order: int) -> Callable[[mx.array], mx.array]:
    """exp(x) times the modified Bessel function of the second kind."""
    near_table = (table.K0_NEAR, table.K1_NEAR)[order]
    far_table = (table.K0_FAR, table.K1_FAR)[order]

    def function(x: mx.array) -> mx.array:
        low, far = mx.clip(x, 1e-30, 2), mx.maximum(x, 2)
        smooth = chebyshev(mx.square(low) / 2 - 1, near_table)
        logarithm = mx.log(low / 2)
        if order:
            near = smooth / low + logarithm * _grown(low, _i1e(low))
        else:
            near = smooth - logarithm * _grown(low, _i0e(low))
        large = chebyshev(4 / far - 1, far_table) / mx.sqrt(far)
        found = mx.where(x <= 2, near * mx.exp(low), large)
        return mx.where(x > 0, found, mx.where(x == 0, mx.inf, mx.nan))

    return function


def _plain(function: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
    return lambda x: mx.where(x == mx.inf, 0.0, mx.exp(-x) * function(x))


def k0(x: mx.array) -> mx.array:
    """torch.special.modified_bessel_k0: of the second kind, of order 0."""
    return in_full(_plain(_ke(0)), x)


def k1(x: mx.array) -> mx.array:
    """torch.special.modified_bessel_k1: of the second kind, of order 1."""
    return in_full(_plain(_ke(1)), x)


def k0e(x: mx.array) -> mx.array:
    """torch.special.scaled_modified_bessel_k0: exp(x) k0(x)."""
    return in_full(_ke(0), x)


def k1e(x: mx.array) -> mx.array:
    """torch.special.scaled_modified_bessel_k1: exp(x) k1(x)."""
    return in_full(_ke(1), x)


def _waves(x: mx.array, order: int, second: bool) -> mx.array:
    """J or Y for x >= 8."""
    t = 128 / mx.square(x) - 1
    cosine = chebyshev(t, (table.P0_FAR, table.P1_FAR)[order])
    sine = chebyshev(t, (table.Q0_FAR, table.Q1_FAR)[order]) / x
    angle = x - (2 * order + 1) * math.pi / 4
    s, c = mx.sin(angle), mx.cos(angle)
    wave = cosine * s + sine * c if second else cosine * c - sine * s
    return wave * mx.sqrt(2 / (math.pi * x))


def _first_kind(x: mx.array, order: int) -> mx.array:
    y = mx.abs(x)
    near = chebyshev(mx.square(mx.minimum(y, 8)) / 32 - 1, (table.J0_NEAR, table.J1_NEAR)[order])
    near = near * y if order else near
    found = mx.where(y <= 8, near, _waves(mx.maximum(y, 8), order, False))
    return mx.where(x < 0, -found, found) if order else found


def _second_kind(x: mx.array, order: int) -> mx.array:
    low = mx.clip(x, 1e-30, 8)
    smooth = chebyshev(mx.square(low) / 32 - 1, (table.Y0_NEAR, table.Y1_NEAR)[order])
    product = mx.log(low) * _first_kind(low, order)
    if order:
        near = smooth * low + 2 / math.pi * (product - 1 / low)
    else:
        near = smooth + 2 / math.pi * product
    found = mx.where(x <= 8, near, _waves(mx.maximum(x, 8), order, True))
    return mx.where(x > 0, found, mx.where(x == 0, -mx.inf, mx.nan))


def j0(x: mx.array) -> mx.array:
    """torch.special.bessel_j0: of the first kind, of order 0."""
    return in_full(lambda x: _first_kind(x, 0), x)


def j1(x: mx.array) -> mx.array:
    """torch.special.bessel_j1: of the first kind, of order 1."""
    return in_full(lambda x: _first_kind(x, 1), x)


def y0(x: mx.array) -> mx.array:
    """torch.special.bessel_y0: of the second kind, of order 0."""
    return in_full(lambda x: _second_kind(x, 0), x)


def y1(x: mx.array) -> mx.array:
    """torch.special.bessel_y1: of the second kind, of order 1."""
    return in_full(lambda x: _second_kind(x, 1), x)


def spherical_j0(x: mx.array) -> mx.array:
    """torch.special.spherical_bessel_j0: sin(x) / x, 1 at 0."""

    def value(x: mx.array) -> mx.array:
        safe = mx.where(x == 0, 1.0, x)
        found = mx.where(x == 0, 1.0, mx.sin(safe) / safe)
        return mx.where(mx.isinf(x), 0.0, found)

    return in_full(value, x)


def _erfcx(x: mx.array) -> mx.array:
    y = mx.minimum(mx.abs(x), 1e30)
    right = chebyshev((y - 3.75) / (y + 3.75), table.ERFCX) / (1 + 2 * y)
    return mx.where(x < 0, 2 * mx.exp(mx.square(x)) - right, right)


def erfcx(x: mx.array) -> mx.array:
    """torch.special.erfcx: exp(x**2) erfc(x)."""
    return derived(_erfcx, lambda x: 2 * x * erfcx(x) - 2 / math.sqrt(math.pi))(x)


def _log_ndtr(x: mx.array) -> mx.array:
    scaled = x / math.sqrt(2)
    low, high = mx.minimum(scaled, 0), mx.maximum(scaled, 0)
    left = mx.log(_erfcx(-low) / 2) - mx.square(low)
    tail = mx.where(high > 1e18, 0.0, mx.exp(-mx.square(high)) * _erfcx(high))
    return mx.where(x < 0, left, mx.log1p(-tail / 2))


def log_ndtr(x: mx.array) -> mx.array:
    """torch.special.log_ndtr: the logarithm of the normal distribution's cumulative function."""
    scale = math.sqrt(2 / math.pi)
    return derived(_log_ndtr, lambda x: scale / erfcx(-x / math.sqrt(2)))(x)
