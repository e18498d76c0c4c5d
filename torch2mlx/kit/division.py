"""Division as torch does it: exact floors of floats, whole numbers rounded down or towards zero."""

from __future__ import annotations

import mlx.core as mx

from torch2mlx.kit.kinks import arrays, summed
from torch2mlx.kit.stubs import custom_function


def floor_divide(x: mx.array | float, y: mx.array | float) -> mx.array:
    """torch.floor_divide of floats: the floor of the true quotient, by way of the exact rest.

    The quotient rounded, then its floor, is one too large where x / y rounds up to a whole number:
    6.0 // 0.1 is 59. There is no gradient, as in torch.
    """
    x, y = mx.stop_gradient(mx.array(x)), mx.stop_gradient(mx.array(y))
    size = mx.remainder(mx.abs(x), mx.abs(y))
    rest = mx.where(x < 0, -size, size)
    quotient = (x - rest) / y
    quotient = mx.where((rest != 0) & ((y < 0) != (rest < 0)), quotient - 1, quotient)
    whole = mx.floor(quotient)
    whole = mx.where(quotient - whole > 0.5, whole + 1, whole)
    return mx.where(y == 0, x / y, whole)


def fmod(x: mx.array | float, y: mx.array | float) -> mx.array:
    """torch.fmod: the rest with the sign of x, exactly; with torch's gradients, 1 of x and that of
    the quotient, cut to a whole number, of y."""
    x, y = arrays(x, y)
    if not mx.issubdtype(mx.result_type(x, y), mx.inexact):
        return x - whole_trunc(x, y) * y

    @custom_function
    def rest(x, y):
        size = mx.remainder(mx.abs(x), mx.abs(y))
        return mx.where(x < 0, -size, size)

    @rest.vjp
    def rest_vjp(primals, cotangent, output):
        x, y = primals
        return summed(cotangent, x), summed(-cotangent * mx.trunc(x / y), y)

    return rest(x, y)


def _rest(x: mx.array, y: mx.array) -> tuple[mx.array, mx.array]:
    """A quotient of whole numbers, and what it leaves of x: MLX rounds down or towards zero, by
    version and device."""
    quotient = x // y
    return quotient, x - quotient * y


def whole_floor(x: mx.array, y: mx.array) -> mx.array:
    """torch.floor_divide of whole numbers."""
    quotient, rest = _rest(x, y)
    above = (rest != 0) & ((rest < 0) != (y < 0))
    return quotient - above.astype(quotient.dtype)


def whole_trunc(x: mx.array, y: mx.array) -> mx.array:
    """torch.div(rounding_mode="trunc") of whole numbers."""
    quotient, rest = _rest(x, y)
    below = (rest != 0) & ((rest < 0) != (x < 0))
    return quotient + below.astype(quotient.dtype)
