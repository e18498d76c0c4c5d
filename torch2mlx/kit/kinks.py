"""Functions whose slope is 0 on one side, with torch's gradients: these select, MLX's multiply.

Behind such a function a root or a logarithm may have a slope without bound, and 0 * inf is NaN,
where torch has 0. Of equal items torch shares the gradient, or gives it to one.
"""

from __future__ import annotations

import mlx.core as mx

from torch2mlx.kit.stubs import custom_function


def summed(cotangent: mx.array, like: mx.array) -> mx.array:
    """A cotangent summed over the axes that broadcasting has added."""
    extra = cotangent.ndim - like.ndim
    axes = [*range(extra), *(extra + i for i, n in enumerate(like.shape) if n == 1)]
    axes = [a for a in axes if a < extra or cotangent.shape[a] != 1]
    total = mx.sum(cotangent, axis=axes, keepdims=True) if axes else cotangent
    return total.reshape(like.shape).astype(like.dtype)


def arrays(x: mx.array | float, y: mx.array | float) -> tuple[mx.array, mx.array]:
    """Two operands as arrays; a number takes the dtype of the other."""
    if isinstance(x, mx.array):
        return x, y if isinstance(y, mx.array) else mx.array(y, x.dtype)
    if isinstance(y, mx.array):
        return mx.array(x, y.dtype), y
    return mx.array(x), mx.array(y)


def where(condition: mx.array, x: mx.array | float, y: mx.array | float) -> mx.array:
    """torch.where: the gradient of what is not taken is 0, also where the other's is infinite."""

    @custom_function
    def taken(condition, x, y):
        return mx.where(condition, x, y)

    @taken.vjp
    def taken_vjp(primals, cotangent, output):
        condition, x, y = primals
        zero = mx.zeros((), cotangent.dtype)
        return (
            mx.zeros_like(condition),
            summed(mx.where(condition, cotangent, zero), x),
            summed(mx.where(condition, zero, cotangent), y),
        )

    return taken(condition, *arrays(x, y))


def relu(x: mx.array) -> mx.array:
    """x above 0, else 0."""
    return where(x <= 0, 0, x)


def clip(
    x: mx.array, low: mx.array | float | None = None, high: mx.array | float | None = None
) -> mx.array:
    """torch.clamp: between two limits, the upper one wins; at a limit x keeps its gradient. Where a
    limit is NaN the result is."""
    if low is not None:
        x = where(_or_nan(x < low, low), low, x)
    return x if high is None else where(_or_nan(x > high, high), high, x)


def _or_nan(outside: mx.array, limit: mx.array | float) -> mx.array:
    """Where a limit is passed, or is NaN."""
    if isinstance(limit, mx.array):
        inexact = mx.issubdtype(limit.dtype, mx.inexact)
        return outside | mx.isnan(limit) if inexact else outside
    return outside if limit == limit else mx.ones_like(outside)


def hardtanh(x: mx.array, min_val: float = -1.0, max_val: float = 1.0) -> mx.array:
    """x kept between two limits; no gradient outside or at them."""
    return where(x <= min_val, min_val, where(x >= max_val, max_val, x))


def threshold(x: mx.array, threshold: float, value: float) -> mx.array:
    """x where it is above the threshold, else the value."""
    return where(x <= threshold, value, x)


def leaky_relu(x: mx.array, negative_slope: float = 0.01) -> mx.array:
    """x, or negative_slope * x up to zero."""
    return where(x > 0, x, negative_slope * x)


def _halves(x: mx.array, y: mx.array, first: mx.array, cotangent: mx.array):
    """Cotangents of two operands: of the one that is taken, half and half where they are equal."""
    zero = mx.zeros((), cotangent.dtype)
    shared = mx.where(x == y, cotangent / 2, cotangent)
    return (
        summed(mx.where(first, shared, zero), x),
        summed(mx.where(first & (x != y), zero, shared), y),
    )


def _extreme(name: str, x: mx.array | float, y: mx.array | float) -> mx.array:
    @custom_function
    def best(x, y):
        return getattr(mx, name)(x, y)

    @best.vjp
    def best_vjp(primals, cotangent, output):
        x, y = primals
        first = ~(x < y) if name == "maximum" else ~(x > y)
        return _halves(x, y, first, cotangent)

    return best(*arrays(x, y))


def maximum(x: mx.array | float, y: mx.array | float) -> mx.array:
    """torch.maximum: equal items share their gradient."""
    return _extreme("maximum", x, y)


def minimum(x: mx.array | float, y: mx.array | float) -> mx.array:
    """torch.minimum: equal items share their gradient."""
    return _extreme("minimum", x, y)


def fmax(x: mx.array, y: mx.array) -> mx.array:
    """torch.fmax: the larger of two, the number where one is NaN; the first of equal items."""
    return where((x >= y) | mx.isnan(y), x, y)


def fmin(x: mx.array, y: mx.array) -> mx.array:
    """torch.fmin: the smaller of two, the number where one is NaN; the first of equal items."""
    return where((x <= y) | mx.isnan(y), x, y)


def _along(name: str, x: mx.array, axis: int, keepdims: bool) -> mx.array:
    """An extreme along an axis, whose gradient goes to the first of equal items."""

    @custom_function
    def best(x):
        return getattr(mx, name)(x, axis=axis, keepdims=keepdims)

    @best.vjp
    def best_vjp(x, cotangent, output):
        where = getattr(mx, f"arg{name}")(x, axis=axis, keepdims=True)
        cotangent = cotangent if keepdims else mx.expand_dims(cotangent, axis)
        return mx.put_along_axis(mx.zeros_like(x), where, cotangent, axis=axis)

    return best(x)


def largest(x: mx.array, axis: int, keepdims: bool = False) -> mx.array:
    """torch.max along an axis: the gradient goes to the first of equal items."""
    return _along("max", x, axis, keepdims)


def smallest(x: mx.array, axis: int, keepdims: bool = False) -> mx.array:
    """torch.min along an axis: the gradient goes to the first of equal items."""
    return _along("min", x, axis, keepdims)


def power(x: mx.array | float, y: mx.array | float) -> mx.array:
    """torch.pow of arrays: slopes at 0 are 0 where torch's are."""

    @custom_function
    def raised(x, y):
        return mx.power(x, y)

    @raised.vjp
    def raised_vjp(primals, cotangent, output):
        x, y = primals
        zero = mx.zeros((), cotangent.dtype)
        slope = mx.where(y == 0, zero, cotangent * y * mx.power(x, mx.where(y == 0, 1, y - 1)))
        still = (x == 0) & (y >= 0)  # 0 ** y is 0 whatever y is
        growth = mx.where(still, zero, cotangent * output * mx.log(mx.where(still, 1, x)))
        return summed(slope, x), summed(growth, y)

    return raised(*arrays(x, y))


def arctan2(y: mx.array, x: mx.array) -> mx.array:
    """torch.atan2: no gradient at the origin."""
    origin = (x == 0) & (y == 0)
    angle = mx.arctan2(mx.where(origin, 0, y), mx.where(origin, 1, x))
    return mx.where(origin, mx.arctan2(mx.stop_gradient(y), mx.stop_gradient(x)), angle)
