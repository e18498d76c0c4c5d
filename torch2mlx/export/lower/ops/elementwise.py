"""Arithmetic, comparisons, powers, rounding, logic: one value in, one out."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import FLOATS, Builder, is_float, is_integer
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.functions import as_float
from torch2mlx.export.lower.ops.registry import lowers


def binary(b: Builder, op: str, x: Any, y: Any) -> Node:
    """An infix of two arrays, or an array and a number, after torch's promotion of dtypes."""
    return b.call(op, *promoted(b, x, y))


def promoted(b: Builder, x: Any, y: Any) -> tuple[Any, Any]:
    """Operands as MLX has to see them: its rules for zero-dimensional arrays differ from
    torch's."""
    if b.dtype in FLOATS and b.dtype != "float32":
        x, y = (_narrowed(b, v, b.dtype) for v in (x, y))
    return x, y


def _narrowed(b: Builder, x: Any, dtype: str) -> Any:
    lone = isinstance(x, Node) and x.is_array and x.ndim == 0 and is_float(x)
    return b.cast(x, dtype) if lone and x.dtype != dtype else x


@lowers("aten::add")
def add(b: Builder, self: Any, other: Any, alpha: Any = 1) -> Node:
    """self + alpha * other."""
    if b.dtype == "bool":
        return b.call("mx.logical_or", b.array(self), b.array(other))
    return binary(b, "operator.add", self, scaled(b, other, alpha))


def scaled(b: Builder, x: Any, alpha: Any) -> Any:
    """alpha * x."""
    if isinstance(alpha, (int, float)) and alpha == 1:
        return x
    if not isinstance(x, Node) and not isinstance(alpha, Node):
        return alpha * x
    return b.call("operator.mul", alpha, x)


@lowers("aten::sub", "aten::subtract")
def sub(b: Builder, self: Any, other: Any, alpha: Any = 1) -> Node:
    """self - alpha * other."""
    return binary(b, "operator.sub", self, scaled(b, other, alpha))


@lowers("aten::rsub")
def rsub(b: Builder, self: Any, other: Any, alpha: Any = 1) -> Node:
    """other - alpha * self."""
    return binary(b, "operator.sub", other, scaled(b, self, alpha))


@lowers("aten::mul", "aten::multiply")
def mul(b: Builder, self: Any, other: Any) -> Node:
    """self * other."""
    if b.dtype == "bool":
        return b.call("mx.logical_and", b.array(self), b.array(other))
    return binary(b, "operator.mul", self, other)


@lowers("aten::div", "aten::divide", "aten::true_divide")
def div(b: Builder, self: Any, other: Any, rounding_mode: str | None = None) -> Node:
    """self / other, rounded as asked."""
    if rounding_mode == "floor":
        return floor_divide(b, self, other)
    if rounding_mode == "trunc":
        if _whole(self) and _whole(other):
            return _truncated(b, self, other)
        return b.call("mx.trunc", binary(b, "operator.truediv", self, other))
    return binary(b, "operator.truediv", self, other)


def _whole(x: Any) -> bool:
    return is_integer(x) or (isinstance(x, Node) and x.dtype == "bool")


def _truncated(b: Builder, x: Any, y: Any) -> Node:
    """Integers divided towards zero."""
    x, y = (b.cast(v, b.dtype or "int64") for v in (x, y))
    return b.call("kit.division.whole_trunc", x, y)


@lowers("aten::floor_divide")
def floor_divide(b: Builder, self: Any, other: Any) -> Node:
    """self // other, towards minus infinity."""
    if _whole(self) and _whole(other):
        if unsigned(self) and (unsigned(other) or (not isinstance(other, Node) and other > 0)):
            return b.call("operator.floordiv", self, other)
        x, y = (b.cast(v, b.dtype or "int64") for v in (self, other))
        return b.call("kit.division.whole_floor", x, y)
    return b.call("kit.division.floor_divide", *promoted(b, self, other))


def unsigned(x: Any) -> bool:
    """Whether an array cannot hold negative numbers by its dtype."""
    return isinstance(x, Node) and (x.dtype.startswith("uint") or x.dtype == "bool")


@lowers("aten::remainder", "aten::__rmod__")
def remainder(b: Builder, self: Any, other: Any) -> Node:
    """The rest with the sign of the divisor."""
    return binary(b, "operator.mod", self, other)


@lowers("aten::fmod")
def fmod(b: Builder, self: Any, other: Any) -> Node:
    """The rest with the sign of the dividend."""
    if b.dtype in FLOATS:
        return b.call("kit.division.fmod", b.cast(self, b.dtype), b.cast(other, b.dtype))
    x, y = (b.cast(v, b.dtype or "int64") for v in (self, other))
    return b.call("operator.sub", x, b.call("operator.mul", _truncated(b, x, y), y))


@lowers("aten::pow", "aten::float_power", "aten::special_pow")
def power(b: Builder, self: Any, exponent: Any) -> Node:
    """self ** exponent."""
    if isinstance(exponent, (int, float)) and exponent == 2 and b.dtype == self.dtype:
        return b.call("mx.square", self)
    if isinstance(exponent, (int, float)) and exponent == 0.5 and is_float(self):
        return b.call("mx.sqrt", self)
    if b.dtype in FLOATS:
        self = b.cast(self, b.dtype) if isinstance(self, Node) else self
        exponent = b.cast(exponent, b.dtype) if isinstance(exponent, Node) else exponent
    if b.dtype in FLOATS and isinstance(exponent, (int, float)) and exponent == 0:
        return b.call("mx.ones_like", self)
    arrays = isinstance(exponent, Node) and exponent.is_array
    if b.dtype in FLOATS and arrays and (isinstance(self, Node) or self <= 0):
        return b.call("kit.kinks.power", self, exponent)
    return b.call("operator.pow", self, exponent)


@lowers("aten::reciprocal")
def reciprocal(b: Builder, self: Node) -> Node:
    """1 / self."""
    return b.call("operator.truediv", 1, self)


@lowers("aten::clamp", "aten::clip")
def clamp(b: Builder, self: Node, min: Any = None, max: Any = None) -> Node:
    """Between two limits; the upper one wins."""
    x = b.cast(self, b.dtype) if b.dtype and is_float(self) is not (b.dtype in FLOATS) else self
    if not is_float(x):
        return b.call("mx.clip", x, min, max)
    arrays = any(isinstance(limit, Node) and limit.is_array for limit in (min, max))
    if arrays or b.selecting:
        limits = (min,) if max is None else (min, max)
        return b.call("kit.kinks.clip", x, *limits)
    # the second operand has the gradient where the two are equal: x, as in torch
    x = x if min is None else b.call("mx.maximum", min, x)
    return x if max is None else b.call("mx.minimum", max, x)


@lowers("aten::clamp_min")
def clamp_min(b: Builder, self: Node, min: Any) -> Node:
    """At least `min`."""
    return clamp(b, self, min, None)


@lowers("aten::clamp_max")
def clamp_max(b: Builder, self: Node, max: Any) -> Node:
    """At most `max`."""
    return clamp(b, self, None, max)


@lowers("aten::maximum", "aten::max.other")
def maximum(b: Builder, self: Node, other: Node) -> Node:
    """The larger of two; equal items share their gradient."""
    return b.call("kit.kinks.maximum" if is_float(self) else "mx.maximum", self, other)


@lowers("aten::minimum", "aten::min.other")
def minimum(b: Builder, self: Node, other: Node) -> Node:
    """The smaller of two; equal items share their gradient."""
    return b.call("kit.kinks.minimum" if is_float(self) else "mx.minimum", self, other)


@lowers("aten::fmax")
def fmax(b: Builder, self: Node, other: Node) -> Node:
    """The larger of two, the number when one is NaN."""
    return b.call("kit.kinks.fmax", self, other)


@lowers("aten::fmin")
def fmin(b: Builder, self: Node, other: Node) -> Node:
    """The smaller of two, the number when one is NaN."""
    return b.call("kit.kinks.fmin", self, other)


@lowers("aten::atan2", "aten::arctan2")
def atan2(b: Builder, self: Node, other: Node) -> Node:
    """The angle of a point."""
    return b.call("kit.kinks.arctan2", as_float(b, self), as_float(b, other))


@lowers("aten::logaddexp", "aten::special_logaddexp")
def logaddexp(b: Builder, self: Node, other: Node) -> Node:
    """log(exp(self) + exp(other))."""
    return b.call("mx.logaddexp", self, other)


@lowers("aten::addcmul")
def addcmul(b: Builder, self: Node, tensor1: Node, tensor2: Node, value: Any = 1) -> Node:
    """self + value * tensor1 * tensor2."""
    return binary(
        b, "operator.add", self, scaled(b, b.call("operator.mul", tensor1, tensor2), value)
    )


@lowers("aten::addcdiv")
def addcdiv(b: Builder, self: Node, tensor1: Node, tensor2: Node, value: Any = 1) -> Node:
    """self + value * tensor1 / tensor2."""
    return binary(
        b, "operator.add", self, scaled(b, b.call("operator.truediv", tensor1, tensor2), value)
    )
