"""Activation functions."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.random import mode
from torch2mlx.export.lower.ops.registry import lowers


@lowers("aten::relu")
def relu(b: Builder, self: Node) -> Node:
    """x above zero, else zero."""
    return b.call("kit.kinks.relu" if b.selecting else "nn.relu", self)


@lowers("aten::relu6")
def relu6(b: Builder, self: Node) -> Node:
    """Between 0 and 6."""
    if b.selecting:
        return b.call("kit.kinks.hardtanh", self, 0, 6)
    return b.call("kit.activations.relu6", self)


@lowers("aten::gelu")
def gelu(b: Builder, self: Node, approximate: str = "none") -> Node:
    """GELU, exact or by tanh."""
    return b.call("nn.gelu_approx" if approximate == "tanh" else "nn.gelu", self)


@lowers("aten::leaky_relu")
def leaky_relu(b: Builder, self: Node, negative_slope: Any = 0.01) -> Node:
    """x, or slope * x below zero."""
    family = "kinks" if b.selecting else "activations"
    return b.call(f"kit.{family}.leaky_relu", self, negative_slope)


@lowers("aten::elu")
def elu(b: Builder, self: Node, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Node:
    """alpha * (exp(x) - 1) below zero."""
    negative = b.call(
        "mx.expm1", self if input_scale == 1 else b.call("operator.mul", self, input_scale)
    )
    if alpha == 1 and scale == 1 and input_scale == 1:
        return b.call("kit.activations.elu", self)
    low = b.call("operator.mul", negative, alpha)
    found = b.call("mx.where", b.call("operator.gt", self, 0), self, low)
    return found if scale == 1 else b.call("operator.mul", found, scale)


@lowers("aten::hardtanh")
def hardtanh(b: Builder, self: Node, min_val: Any = -1, max_val: Any = 1) -> Node:
    """Between two limits."""
    family = "kinks" if b.selecting else "activations"
    return b.call(f"kit.{family}.hardtanh", self, min_val, max_val)


@lowers("aten::threshold")
def threshold(b: Builder, self: Node, threshold: Any, value: Any) -> Node:
    """x above the threshold, else the value."""
    if b.selecting:
        return b.call("kit.kinks.threshold", self, threshold, value)
    return b.call("mx.where", b.call("operator.le", self, threshold), value, self)


@lowers("aten::glu")
def glu(b: Builder, self: Node, dim: int = -1) -> Node:
    """One half times the sigmoid of the other."""
    return b.call("nn.glu", self, **({} if dim == -1 else {"axis": dim}))


@lowers("aten::prelu", "aten::_prelu_kernel")
def prelu(b: Builder, self: Node, weight: Node) -> Node:
    """A learnt slope below zero, by channel."""
    if weight.ndim == 1 and weight.shape[0] > 1 and self.ndim > 1:
        weight = b.reshape(weight, (1, -1, *[1] * (self.ndim - 2)))
    positive = b.call("operator.gt", self, 0)
    return b.call("mx.where", positive, self, b.call("operator.mul", weight, self))


@lowers("aten::rrelu", "aten::rrelu_with_noise")
def rrelu(
    b: Builder,
    self: Node,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    **_: Any,
) -> Node:
    """A slope below zero; in training a random one."""
    when = mode(b, training)
    if when is None:
        return leaky_relu(b, self, (lower + upper) / 2)
    return b.call("kit.activations.rrelu", self, lower, upper, when)


@lowers("aten::_safe_softmax")
def safe_softmax(b: Builder, self: Node, dim: int, **_: Any) -> Node:
    """softmax, 0 in rows that are all minus infinity."""
    barred = b.call("operator.eq", self, float("-inf"))
    empty = b.call("mx.all", barred, axis=dim, keepdims=True)
    filled = b.call("mx.where", empty, 0.0, self)  # so that such rows have a gradient of 0, not NaN
    return b.call("mx.where", empty, 0.0, softmax(b, filled, dim))


@lowers("aten::softmax", "aten::_softmax", "aten::special_softmax")
def softmax(b: Builder, self: Node, dim: int, **_: Any) -> Node:
    """exp(x) over its sum along an axis."""
    x = b.cast(self, b.dtype) if b.dtype else self
    return b.call("mx.softmax", x, axis=dim) if x.ndim else b.call("mx.ones_like", x)


@lowers("aten::log_softmax", "aten::_log_softmax", "aten::special_log_softmax")
def log_softmax(b: Builder, self: Node, dim: int, **_: Any) -> Node:
    """The logarithm of softmax."""
    x = b.cast(self, b.dtype) if b.dtype else self
    if not x.ndim:
        return b.call("mx.zeros_like", x)
    length = b.dim(x, dim)  # MLX's own, which is compiled, fails for a length of 1
    several = isinstance(length, int) and length > 1
    return b.call("nn.log_softmax" if several else "kit.activations.log_softmax", x, axis=dim)


@lowers("aten::_softmax_backward_data")
def softmax_backward(b: Builder, grad_output: Node, output: Node, dim: int, **_: Any) -> Node:
    """The gradient of softmax, which some models call by name: y * (g - sum(g * y))."""
    product = b.call("operator.mul", grad_output, output)
    total = b.call("mx.sum", product, axis=dim, keepdims=True)
    return b.call("operator.sub", product, b.call("operator.mul", output, total))


@lowers("aten::_log_softmax_backward_data")
def log_softmax_backward(b: Builder, grad_output: Node, output: Node, dim: int, **_: Any) -> Node:
    """The gradient of log_softmax: g - exp(y) * sum(g)."""
    total = b.call("mx.sum", grad_output, axis=dim, keepdims=True)
    return b.call(
        "operator.sub", grad_output, b.call("operator.mul", b.call("mx.exp", output), total)
    )
