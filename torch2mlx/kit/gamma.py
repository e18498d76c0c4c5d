"""The gamma function's family: lgamma, digamma, polygamma and Hurwitz' zeta, as torch has them.

Formulas are those of Abramowitz and Stegun, chapter 6, and of Cephes' zeta. Whole numbers are
computed as float32, and half formats in float32; a result has the dtype of a floating argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from torch2mlx.kit.stubs import custom_function


def in_full(function: Callable[..., mx.array], *arrays: mx.array) -> mx.array:
    """A function computed in float32 at least, its result in the dtype that torch gives."""
    floats = [x for x in arrays if mx.issubdtype(x.dtype, mx.floating)]
    result = mx.result_type(*floats) if floats else mx.float32
    wide = result if result.size == 8 else mx.float32
    return function(*(x.astype(wide) for x in arrays)).astype(result)


def derived(
    value: Callable[[mx.array], mx.array], slope: Callable[[mx.array], mx.array]
) -> Callable[[mx.array], mx.array]:
    """A function of one array whose derivative is another function of it."""

    def function(x: mx.array) -> mx.array:
        run = custom_function(lambda x: in_full(value, x))
        run.vjp(lambda x, cotangent, _: cotangent * slope(x))
        return run(x)

    return function


def _zeta_less_one(k: int) -> float:
    """Riemann's zeta at a whole number from 2 on, less 1, by Euler and Maclaurin's formula."""
    n = 20
    rest = n ** (1 - k) / (k - 1) - n**-k / 2 + k * n ** (-k - 1) / 12
    rest -= k * (k + 1) * (k + 2) * n ** (-k - 3) / 720
    return math.fsum([*(i**-k for i in range(2, n + 1)), rest])


#: The series of lgamma(2 + z), |z| <= 1, without its constant 0: 26 terms are enough for float32.
_AT_TWO = (1 - 0.5772156649015329, *((-1) ** k * _zeta_less_one(k) / k for k in range(2, 56)))
_TERMS_AT_TWO = 26
#: Stirling's series in 1 / x, odd powers.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
#: Bernoulli's numbers B2, B4, ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def _horner(x: mx.array, coefficients: tuple[float, ...]) -> mx.array:
    total = mx.full(x.shape, coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def _stirling(x: mx.array) -> mx.array:
    """lgamma for large x."""
    series = _horner(1 / mx.square(x), _STIRLING) / x
    return (x - 0.5) * (mx.log(x) - 1) + (0.5 * math.log(2 * math.pi) - 0.5) + series


def _log_gamma(x: mx.array) -> mx.array:
    mirrored = x < 0.5
    y = mx.where(mirrored, 1 - x, x)
    z = y - mx.where(y < 1.5, 1.0, 2.0)
    terms = _AT_TWO if x.dtype == mx.float64 else _AT_TWO[:_TERMS_AT_TWO]
    near = mx.where(y < 3, z, 0.0)
    near = near * _horner(near, terms) - mx.where(y < 1.5, mx.log1p(mx.where(y < 1.5, z, 0.0)), 0)
    far = mx.maximum(y, 3)
    if x.dtype == mx.float64:  # Stirling's series has 16 digits from 10 on only
        product = mx.ones_like(far)
        for k in range(8):
            product = product * mx.minimum(far + k, 1e18)
        far = mx.where(far < 11, _stirling(far + 8) - mx.log(product), _stirling(far))
    else:
        far = _stirling(far)
    right = mx.where(y < 3, near, far)
    sine = mx.abs(mx.sin(math.pi * (x - mx.round(x))))
    left = math.log(math.pi) - mx.log(sine) - right
    found = mx.where(mirrored, left, right)
    return mx.where(mx.isinf(x), mx.inf, found)


def _digamma(x: mx.array) -> mx.array:
    mirrored = x < 0
    y = mx.where(mirrored, 1 - x, x)
    total = mx.zeros_like(y)
    for _ in range(10):
        low = y < 10
        total = total - mx.where(low, 1 / mx.where(y == 0, 1, y), 0.0)
        y = y + low
    square = 1 / mx.square(y)
    series = square * _horner(square, tuple(b / (2 * k + 2) for k, b in enumerate(_BERNOULLI)))
    right = total + mx.log(y) - 0.5 / y - series
    part = x - mx.round(x)
    left = right - math.pi / mx.tan(math.pi * mx.where(part == 0, 0.5, part))
    found = mx.where(mirrored, mx.where(part == 0, mx.nan, left), right)
    return mx.where(x == 0, -1 / x, mx.where(x == -mx.inf, mx.nan, found))


def lgamma(x: mx.array) -> mx.array:
    """torch.lgamma: the logarithm of the gamma function's size, elementwise."""
    return derived(_log_gamma, digamma)(x)


def digamma(x: mx.array) -> mx.array:
    """torch.digamma: the slope of lgamma; at -0 and 0 infinite, at other poles NaN."""
    return derived(_digamma, lambda x: polygamma(1, x))(x)


def _cotangents(n: int) -> tuple[float, ...]:
    """The n-th derivative of cot(y) as a polynomial in cot(y): that of c is -(1 + c**2)."""
    p = [0.0, 1.0]
    for _ in range(n):
        slopes = [k * c for k, c in enumerate(p)][1:]
        p = [-c for c in slopes] + [0.0, 0.0]
        for k, c in enumerate(slopes):
            p[k + 2] -= c
    return tuple(p)


def polygamma(n: int, x: mx.array) -> mx.array:
    """torch.polygamma: the n-th derivative of digamma, elementwise."""
    if n == 0:
        return digamma(x)
    sign = (-1.0) ** (n + 1) * math.factorial(n)

    def value(x: mx.array) -> mx.array:
        mirrored = x < 0
        y = mx.where(mirrored, 1 - x, x)
        right = sign * _hurwitz(mx.array(n + 1.0, x.dtype), y)
        angle = math.pi * mx.where(mirrored, x - mx.round(x), 0.5)
        turned = math.pi ** (n + 1) * _horner(1 / mx.tan(angle), _cotangents(n))
        return mx.where(mirrored, (-1) ** n * right - turned, right)

    return derived(value, lambda x: polygamma(n + 1, x))(x)


def mvlgamma(x: mx.array, p: int) -> mx.array:
    """torch.mvlgamma: the multivariate log-gamma function of p dimensions, elementwise."""
    x = x if mx.issubdtype(x.dtype, mx.floating) else x.astype(mx.float32)
    total = p * (p - 1) / 4 * math.log(math.pi)
    return total + sum((lgamma(x - j / 2) for j in range(1, p)), lgamma(x))


def _hurwitz(s: mx.array, q: mx.array) -> mx.array:
    """The sum of (q + k) ** -s over k from 0, for positive q."""
    total = mx.zeros_like(s + q)
    for k in range(10):
        total = total + mx.power(q + k, -s)
    w = q + 10
    total = total + mx.power(w, -s) * (w / (s - 1) + 0.5)
    factor, power = s, mx.power(w, -s - 1)
    for k, number in enumerate(_BERNOULLI):
        total = total + number / math.factorial(2 * k + 2) * factor * power
        factor = factor * (s + 2 * k + 1) * (s + 2 * k + 2)
        power = power / mx.square(w)
    return total


def _zeta(s: mx.array, q: mx.array) -> mx.array:
    s, q = mx.broadcast_arrays(s, q)
    lowest: Any = mx.min(mx.maximum(mx.where(mx.isfinite(q), q, 0), -1e4)).item() if q.size else 0
    steps = max(math.ceil(-lowest), 0)  # items below zero, added one by one
    total, y = mx.zeros_like(q), q
    for _ in range(steps):
        below = y < 0
        total = total + mx.where(below, mx.power(mx.where(below, y, 1.0), -s), 0.0)
        y = mx.where(below, y + 1, y)
    usual = total + _hurwitz(mx.where(s > 1, s, 2.0), mx.where(y > 0, y, 1.0))
    whole = q == mx.floor(q)
    poles = mx.where(whole, mx.inf, mx.where(s == mx.floor(s), usual, mx.nan))
    found = mx.where(q <= 0, poles, usual)
    found = mx.where(s == 1, mx.inf, mx.where(s < 1, mx.nan, found))
    return mx.where(mx.isnan(s) | mx.isnan(q), mx.nan, found)


def zeta(s: mx.array, q: mx.array) -> mx.array:
    """torch.special.zeta: Hurwitz' zeta function, the sum of (q + k) ** -s over k from 0.

    s and q broadcast. Reads how far q goes below zero; there is a gradient of q, as in torch.
    """

    @custom_function
    def run(s, q):
        return in_full(_zeta, s, q)

    @run.vjp
    def run_vjp(primals, cotangent, _):
        s, q = primals
        slope = -s * zeta(s + 1, q) * cotangent
        axes = [
            a
            for a, n in enumerate(slope.shape)
            if n != ([1] * (slope.ndim - q.ndim) + [*q.shape])[a]
        ]
        return mx.zeros_like(s), mx.sum(slope, axis=axes, keepdims=True).reshape(q.shape)

    return run(s, q)
