"""torch's functions of one number or of two that mlx.core lacks: whole numbers count as float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from torch2mlx.kit.kinks import arrays, summed
from torch2mlx.kit.stubs import custom_function

_WORDS = {mx.float32: mx.uint32, mx.float16: mx.uint16, mx.bfloat16: mx.uint16}


def _real(x: Any) -> mx.array:
    """An array of floats or of complex numbers."""
    x = mx.array(x) if not isinstance(x, mx.array) else x
    return x if mx.issubdtype(x.dtype, mx.inexact) else x.astype(mx.float32)


def angle(x: mx.array) -> mx.array:
    """torch.angle: of complex numbers; of real ones pi below zero, else 0, and NaN of NaN."""
    if x.dtype == mx.complex64:
        return mx.arctan2(mx.imag(x), mx.real(x))
    x = _real(x)
    return mx.where(mx.isnan(x), x, mx.where(x < 0, math.pi, 0.0).astype(x.dtype))


def isreal(x: mx.array) -> mx.array:
    """torch.isreal: whether numbers have no imaginary part; booleans of x's shape."""
    if x.dtype == mx.complex64:
        return mx.imag(x) == 0
    return mx.ones(x.shape, mx.bool_)


def signbit(x: mx.array) -> mx.array:
    """torch.signbit: whether the sign bit is set, of minus zero too; booleans of x's shape.

    Raises TypeError for float64, whose bits MLX does not show.
    """
    if not mx.issubdtype(x.dtype, mx.floating):
        return x < 0
    if x.dtype not in _WORDS:
        raise TypeError(f"signbit: {x.dtype} is none of float32, float16 and bfloat16")
    word = _WORDS[x.dtype]
    return mx.view(mx.stop_gradient(x), word) >= 2 ** (8 * word.size - 1)


def copysign(x: mx.array, other: Any) -> mx.array:
    """torch.copysign: the size of x with the sign of `other`, an array or a number."""
    size = mx.abs(_real(x))
    if not isinstance(other, mx.array):
        return size if math.copysign(1, other) > 0 else -size
    return mx.where(signbit(_real(other)), -size, size)


def heaviside(x: mx.array, values: mx.array) -> mx.array:
    """torch.heaviside: 0 below zero and at NaN, 1 above, `values` at zero; x's dtype."""
    return mx.where(x == 0, values, (x > 0).astype(x.dtype))


def _reals(x: Any, y: Any) -> tuple[mx.array, mx.array]:
    """Two operands as arrays of floats; a number takes the dtype of the other."""
    x, y = (_real(v) if isinstance(v, mx.array) else v for v in (x, y))
    return (
        arrays(x, y) if isinstance(x, mx.array) or isinstance(y, mx.array) else (_real(x), _real(y))
    )


def _guarded(x: Any, y: Any, log: Callable[[mx.array], mx.array], least: float) -> mx.array:
    """x times a logarithm of y that is -inf at `least`, with torch's gradients: where x is 0, that
    of x is the logarithm all the same."""

    def masked(x: mx.array, y: mx.array, zero: mx.array) -> mx.array:
        safe = mx.where(zero, 1.0, y)  # whose logarithm is no infinity times 0
        return mx.where(zero, 0.0, x * log(safe))

    @custom_function
    def product(x, y):
        return masked(x, y, (x == 0) & ~mx.isnan(y))

    @product.vjp
    def product_vjp(primals, cotangent, output):
        x, y = primals
        slope = masked(cotangent, y, (cotangent == 0) & ~mx.isnan(y))
        slope = mx.where((x == 0) & (y <= least), 0.0, slope)
        return summed(slope, x), summed(cotangent * x / (y - least), y)

    return product(*_reals(x, y))


def xlogy(x: Any, y: Any) -> mx.array:
    """torch.xlogy: x * log(y), 0 where x is 0 and y no NaN; one of the two may be a number."""
    return _guarded(x, y, mx.log, 0.0)


def xlog1py(x: Any, y: Any) -> mx.array:
    """torch.special.xlog1py: x * log(1 + y), 0 where x is 0 and y no NaN."""
    return _guarded(x, y, mx.log1p, -1.0)


def logit(x: mx.array, eps: float | None = None) -> mx.array:
    """torch.logit: log(x / (1 - x)), with `eps` of x held between eps and 1 - eps."""
    x = _real(x)
    x = x if eps is None or eps < 0 else mx.clip(x, eps, 1 - eps)
    return mx.log(x / (1 - x))


def sinc(x: mx.array) -> mx.array:
    """torch.sinc: sin(pi x) / (pi x), 1 at 0."""
    turned = _real(x) * math.pi
    safe = mx.where(turned == 0, 1.0, turned)
    return mx.where(turned == 0, 1.0, mx.sin(safe) / safe)


def hypot(x: mx.array, y: mx.array) -> mx.array:
    """torch.hypot: sqrt(x ** 2 + y ** 2) of arrays of floats, which squares neither overflow nor
    lose; infinite where one of the two is, NaN or not the other."""
    largest = mx.maximum(mx.abs(x), mx.abs(y))
    unit = mx.stop_gradient(mx.where((largest > 0) & mx.isfinite(largest), largest, 1.0))
    found = unit * mx.sqrt(mx.square(x / unit) + mx.square(y / unit))
    return mx.where(mx.isinf(x) | mx.isinf(y), mx.array(math.inf, found.dtype), found)


def logaddexp2(x: mx.array, y: mx.array) -> mx.array:
    """torch.logaddexp2: log2(2 ** x + 2 ** y)."""
    return mx.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2)


def float_power(x: Any, exponent: Any) -> mx.array:
    """torch.float_power: x ** exponent in float32, where torch has float64; one may be a
    number."""
    return mx.power(_real(x), _real(exponent))


def isin(
    elements: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False
) -> mx.array:
    """torch.isin: which elements are among the others (with `invert`: are not); booleans.

    Takes memory for every pair of the two.
    """
    items, others = mx.array(elements), mx.array(test_elements)
    found = mx.any(items[..., None] == others.reshape(-1), axis=-1)
    return ~found if invert else found


def entr(x: mx.array) -> mx.array:
    """torch.special.entr: -x * log(x), 0 at 0, minus infinity below."""

    @custom_function
    def entropy(x):
        value = -x * mx.log(mx.where(x > 0, x, 1.0))
        return mx.where(x < 0, -math.inf, value)

    @entropy.vjp
    def entropy_vjp(x, cotangent, output):
        return -cotangent * (1 + mx.log(x))  # infinite at 0

    return entropy(_real(x))


def ndtr(x: mx.array) -> mx.array:
    """torch.special.ndtr: the normal distribution's cumulative function."""
    return 0.5 * (1 + mx.erf(_real(x) / math.sqrt(2)))


def ndtri(x: mx.array) -> mx.array:
    """torch.special.ndtri: the inverse of the normal distribution's cumulative function."""
    return math.sqrt(2) * mx.erfinv(2 * _real(x) - 1)
