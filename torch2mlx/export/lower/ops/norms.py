"""Normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers
from torch2mlx.export.lower.stock_layers import to_first, to_last

EPSILON = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}


@lowers("aten::layer_norm")
def layer_norm(
    b: Builder,
    input: Node,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    **_: Any,
) -> Node:
    """Mean 0 and variance 1 over the last axes."""
    count = len(normalized_shape)
    if count == 1:
        return b.call("mx.fast.layer_norm", input, weight, bias, eps)
    flat = b.call("method.flatten", input, input.ndim - count)
    parts = (None if w is None else b.reshape(w, (-1,)) for w in (weight, bias))
    return b.reshape(b.call("kit.moments.layer_norm", flat, *parts, eps), b.dims(input))


@lowers("aten::rms_norm", "aten::_fused_rms_norm")
def rms_norm(
    b: Builder,
    input: Node,
    normalized_shape: Sequence[int],
    weight: Any = None,
    eps: float | None = None,
) -> Node:
    """Mean square 1 over the last axes."""
    eps = EPSILON[input.dtype] if eps is None else eps
    count = len(normalized_shape)
    if count == 1:
        return b.call("mx.fast.rms_norm", input, weight, eps)
    flat = b.call("method.flatten", input, input.ndim - count)
    scale = None if weight is None else b.reshape(weight, (-1,))
    return b.reshape(b.call("mx.fast.rms_norm", flat, scale, eps), b.dims(input))


def _by_channel(b: Builder, x: Node, ndim: int) -> Node:
    return b.reshape(x, (1, -1, *[1] * (ndim - 2))) if ndim > 2 else x


@lowers("aten::batch_norm", "aten::_native_batch_norm_legit_no_training")
def batch_norm(
    b: Builder,
    input: Node,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    **_: Any,
) -> Node:
    """Normalised by running or batch statistics, channel by channel."""
    x, axes = input, (0, *range(2, input.ndim))
    if training or running_mean is None:
        if running_mean is not None:
            raise Refuse("in training with running statistics outside of a BatchNorm layer")
        mean, var = (
            b.call(f"kit.moments.{n}", x, axis=axes, keepdims=True) for n in ("mean", "var")
        )
    else:
        mean, var = _by_channel(b, running_mean, x.ndim), running_var
    scale = b.call("mx.rsqrt", b.call("operator.add", var, eps))
    scale = scale if scale.ndim == x.ndim else _by_channel(b, scale, x.ndim)
    y = b.call("operator.mul", b.call("operator.sub", x, mean), scale)
    if weight is not None:
        y = b.call("operator.mul", y, _by_channel(b, weight, x.ndim))
    return y if bias is None else b.call("operator.add", y, _by_channel(b, bias, x.ndim))


@lowers("aten::instance_norm")
def instance_norm(
    b: Builder,
    input: Node,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    **_: Any,
) -> Node:
    """Normalised over the spatial axes of each sample."""
    if not use_input_stats:
        return batch_norm(b, input, weight, bias, running_mean, running_var, False, momentum, eps)
    if running_mean is not None:
        raise Refuse("with running statistics outside of an InstanceNorm layer")
    y = b.call("kit.moments.normalized", to_last(b, input), tuple(range(1, input.ndim - 1)), eps)
    if weight is not None:
        y = b.call("operator.mul", y, weight)
    return to_first(b, y if bias is None else b.call("operator.add", y, bias))


@lowers("aten::group_norm")
def group_norm(
    b: Builder,
    input: Node,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    **_: Any,
) -> Node:
    """Normalised over groups of channels."""
    y = b.call("kit.moments.group_norm", to_last(b, input), num_groups, weight, bias, eps)
    return to_first(b, y)


@lowers("aten::local_response_norm")
def local_response_norm(
    b: Builder, input: Node, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Node:
    """Divided by what neighbouring channels hold."""
    last = b.call("kit.norm.local_response_norm", to_last(b, input), size, alpha, beta, k)
    return to_first(b, last)


@lowers("aten::normalize")
def normalize(b: Builder, self: Node, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Node:
    """Vectors of length one."""
    return b.call("kit.distance.normalize", self, p, dim, eps)


@lowers("aten::native_layer_norm")
def native_layer_norm(
    b: Builder, input: Node, normalized_shape: Sequence[int], weight: Any, bias: Any, eps: float
) -> tuple[Node, Node, Node]:
    """layer_norm with the mean and the reciprocal of the deviation."""
    axes = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    mean = b.call("mx.mean", input, axis=axes, keepdims=True)
    var = b.call("kit.moments.var", input, axis=axes, keepdims=True)
    scale = b.call("mx.rsqrt", b.call("operator.add", var, eps))
    return layer_norm(b, input, normalized_shape, weight, bias, eps), mean, scale


@lowers("aten::native_group_norm")
def native_group_norm(
    b: Builder,
    input: Node,
    weight: Any,
    bias: Any,
    N: Any,
    C: Any,
    HxW: Any,
    group: int,
    eps: float,
) -> tuple[Node, Node, Node]:
    """group_norm with the mean and the reciprocal of the deviation of each group."""
    grouped = b.reshape(input, (b.dim(input, 0), group, -1))
    mean, var = (b.call(f"kit.moments.{name}", grouped, axis=-1) for name in ("mean", "var"))
    scale = b.call("mx.rsqrt", b.call("operator.add", var, eps))
    return group_norm(b, input, group, weight, bias, eps), mean, scale
