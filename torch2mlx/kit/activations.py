"""Activations at torch's precision and with torch's options."""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: mx.array) -> mx.array:
    """torch's selu; mlx.nn rounds both constants."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def elu(x: mx.array, alpha: float = 1.0) -> mx.array:
    """x, or alpha * (exp(x) - 1) below zero, exact near it."""
    return mx.where(x > 0, x, alpha * mx.expm1(mx.where(x > 0, 0, x)))


def celu(x: mx.array, alpha: float = 1.0) -> mx.array:
    """elu with a slope of one at zero for any alpha."""
    return mx.where(x > 0, x, alpha * mx.expm1(mx.where(x > 0, 0, x) / alpha))


def softplus(x: mx.array, beta: float = 1.0, threshold: float = 20.0) -> mx.array:
    """log(1 + exp(beta * x)) / beta, the identity where beta * x is above the threshold."""
    scaled, zero = beta * x, mx.array(0, x.dtype)
    above = scaled > threshold  # kept out of the exponential; at the threshold itself it counts
    smooth = mx.logaddexp(mx.where(above, zero, scaled), zero) / beta
    return mx.where(above, x, smooth)


def hardtanh(x: mx.array, min_val: float = -1.0, max_val: float = 1.0) -> mx.array:
    """x kept between two limits; no gradient outside or at them."""
    low, high = mx.array(min_val, x.dtype), mx.array(max_val, x.dtype)
    return mx.where(x <= low, low, mx.where(x >= high, high, x))


def relu6(x: mx.array) -> mx.array:
    """x kept between 0 and 6."""
    return hardtanh(x, 0.0, 6.0)


def hardsigmoid(x: mx.array) -> mx.array:
    """x / 6 + 1/2, kept between 0 and 1."""
    return hardtanh(x + 3, 0.0, 6.0) / 6


def hardswish(x: mx.array) -> mx.array:
    """x * hardsigmoid(x), with torch's gradient at the corners."""
    middle = x * (x + 3) / 6
    return mx.where(x <= -3, x * 0, mx.where(x >= 3, x, middle))  # NaN at minus infinity


def hardshrink(x: mx.array, lambd: float = 0.5) -> mx.array:
    """x, or zero between -lambd and lambd."""
    return mx.where((x >= -lambd) & (x <= lambd), mx.zeros_like(x), x)


def softshrink(x: mx.array, lambd: float = 0.5) -> mx.array:
    """x moved towards zero by lambd; zero where it would cross."""
    moved = mx.where(x > 0, x - lambd, x + lambd)
    return mx.where((x >= -lambd) & (x <= lambd), mx.zeros_like(x), moved)


def threshold(x: mx.array, threshold: float, value: float) -> mx.array:
    """x where it is above the threshold, else the value."""
    return mx.where(x <= threshold, mx.array(value, x.dtype), x)


class PReLU(nn.Module):
    """torch.nn.PReLU: one slope below zero, or one for each channel, the last axis."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.weight = mx.full((num_parameters,), init)

    def __call__(self, x: mx.array) -> mx.array:
        return prelu(x, self.weight)


def prelu(x: mx.array, weight: mx.array) -> mx.array:
    """torch.nn.functional.prelu: one slope below zero, or one for each channel, the last axis."""
    return mx.where(x > 0, x, weight * x)


def leaky_relu(x: mx.array, negative_slope: float = 0.01) -> mx.array:
    """x, or negative_slope * x below zero, for any slope."""
    return mx.where(x > 0, x, negative_slope * x)


def rrelu(
    x: mx.array, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> mx.array:
    """leaky_relu with the mean slope, in training with slopes drawn for each item."""
    if not training:
        return leaky_relu(x, (lower + upper) / 2)
    return mx.where(x >= 0, x, mx.random.uniform(lower, upper, x.shape, x.dtype) * x)


def gelu(x: mx.array, approximate: str = "none") -> mx.array:
    """torch's gelu, exact or by tanh."""
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1 + mx.tanh(inner))
    if approximate != "none":
        raise ValueError(f"approximate={approximate!r}: choose 'none' or 'tanh'")
    return x * 0.5 * (1 + mx.erf(x * math.sqrt(0.5)))


def mish(x: mx.array) -> mx.array:
    """x * tanh(softplus(x))."""
    return x * mx.tanh(softplus(x))


def tanhshrink(x: mx.array) -> mx.array:
    """x - tanh(x)."""
    return x - mx.tanh(x)


def softsign(x: mx.array) -> mx.array:
    """x / (1 + |x|)."""
    return x / (1 + mx.abs(x))


def logsigmoid(x: mx.array) -> mx.array:
    """log(sigmoid(x)), without overflow."""
    return -mx.logaddexp(-x, mx.array(0, x.dtype))


def glu(x: mx.array, axis: int = -1) -> mx.array:
    """Half of x times the sigmoid of the other half."""
    value, gate = mx.split(x, 2, axis=axis)
    return value * mx.sigmoid(gate)


def softmax(x: mx.array, axis: int | None = None) -> mx.array:
    """softmax along any axis, in float32 inside; None takes the axis that torch takes."""
    axis = normal_axis(x.ndim) if axis is None else axis
    return mx.softmax(x, axis=axis, precise=True)


def log_softmax(x: mx.array, axis: int | None = None) -> mx.array:
    """log_softmax along any axis, in float32 inside."""
    axis = normal_axis(x.ndim) if axis is None else axis
    # not nn.log_softmax, a shapeless mx.compile: of an axis of length 1 that ends the process
    wide = x.astype(mx.float32)
    wide = wide - mx.stop_gradient(mx.max(wide, axis=axis, keepdims=True))
    return (wide - mx.logsumexp(wide, axis=axis, keepdims=True)).astype(x.dtype)


def softmin(x: mx.array, axis: int | None = None) -> mx.array:
    """softmax of -x."""
    return softmax(-x, axis)


def normal_axis(ndim: int) -> int:
    """The axis torch's softmax layers take when none is given."""
    return 0 if ndim in (0, 1, 3) else 1
