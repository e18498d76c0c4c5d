"""torch.nn.init as functions: each answers a new array of the shape and dtype of the given one.

Weights have torch's layout, whose second axis counts inputs: (out, in, *kernel).
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx


def _fans(x: mx.array) -> tuple[int, int]:
    """Inputs and outputs of one unit."""
    if x.ndim < 2:
        raise ValueError(f"a weight of shape {x.shape} has no fans: two axes are needed")
    kernel = math.prod(x.shape[2:])
    return x.shape[1] * kernel, x.shape[0] * kernel


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """torch.nn.init.calculate_gain."""
    slope = 0.01 if param is None else param
    known = {
        "relu": math.sqrt(2),
        "tanh": 5 / 3,
        "selu": 0.75,
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
    }
    return known.get(nonlinearity, 1.0)


def uniform(x: mx.array, a: float = 0.0, b: float = 1.0) -> mx.array:
    """Uniform in [a, b)."""
    return mx.random.uniform(a, b, x.shape).astype(x.dtype)


def normal(x: mx.array, mean: float = 0.0, std: float = 1.0) -> mx.array:
    """Normal."""
    return (mx.random.normal(x.shape) * std + mean).astype(x.dtype)


def bernoulli(x: mx.array, p: float | mx.array = 0.5) -> mx.array:
    """torch.Tensor.bernoulli_: ones with probability p, else zeros."""
    return mx.random.bernoulli(p, x.shape).astype(x.dtype)


def exponential(x: mx.array, lambd: float = 1.0) -> mx.array:
    """torch.Tensor.exponential_: of rate `lambd`, never zero."""
    return (-mx.log1p(-mx.random.uniform(1e-7, 1.0, x.shape)) / lambd).astype(x.dtype)


def random(x: mx.array, low: int = 0, high: int | None = None) -> mx.array:
    """torch.Tensor.random_: integers from `low` (0 when one number is given) up to `high`."""
    if high is None:
        low, high = (
            (0, low) if low else (0, 2**24 if mx.issubdtype(x.dtype, mx.floating) else 2**31)
        )
    return mx.random.randint(low, high, x.shape).astype(x.dtype)


def trunc_normal(
    x: mx.array, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> mx.array:
    """Normal, cut off at a and b."""
    low, high = (a - mean) / std, (b - mean) / std
    return (mx.random.truncated_normal(low, high, x.shape) * std + mean).astype(x.dtype)


def constant(x: mx.array, val: float) -> mx.array:
    """One value, in the dtype that there is, whatever the value's own is."""
    return mx.full(x.shape, val).astype(x.dtype)


def zeros(x: mx.array) -> mx.array:
    """Zeros."""
    return mx.zeros_like(x)


def ones(x: mx.array) -> mx.array:
    """Ones."""
    return mx.ones_like(x)


def eye(x: mx.array) -> mx.array:
    """The identity. Raises ValueError unless x has two axes, as torch does."""
    rows, columns = x.shape
    return mx.eye(rows, columns, dtype=x.dtype)


def xavier_uniform(x: mx.array, gain: float = 1.0) -> mx.array:
    """Glorot's uniform."""
    bound = gain * math.sqrt(6 / sum(_fans(x)))
    return uniform(x, -bound, bound)


def xavier_normal(x: mx.array, gain: float = 1.0) -> mx.array:
    """Glorot's normal."""
    return normal(x, 0.0, gain * math.sqrt(2 / sum(_fans(x))))


def _kaiming(x: mx.array, a: float, mode: str, nonlinearity: str) -> float:
    fan = _fans(x)[0 if mode == "fan_in" else 1]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform(
    x: mx.array, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> mx.array:
    """He's uniform."""
    bound = math.sqrt(3) * _kaiming(x, a, mode, nonlinearity)
    return uniform(x, -bound, bound)


def kaiming_normal(
    x: mx.array, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> mx.array:
    """He's normal."""
    return normal(x, 0.0, _kaiming(x, a, mode, nonlinearity))


def orthogonal(x: mx.array, gain: float = 1.0) -> mx.array:
    """Rows or columns at right angles."""
    rows, columns = x.shape[0], math.prod(x.shape[1:])
    flat = mx.random.normal((max(rows, columns), min(rows, columns)))
    q, r = mx.linalg.qr(flat, stream=mx.cpu)
    q = q * mx.sign(mx.diagonal(r))
    q = q.T if rows < columns else q
    # `q * gain`, not `gain * q`: a scalar of numpy would make that an array of numpy.
    return (q * gain).reshape(x.shape).astype(x.dtype)
