"""Functions of one number: exp and its kin, rounding, special ones."""

from __future__ import annotations

import math
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse, is_float, mx_dtype
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers

#: torch's name -> MLX's, for functions of one array that are equal in value and dtype rules.
UNARY = {
    **{n: n for n in ("exp", "expm1", "log", "log10", "log1p", "log2", "sqrt", "rsqrt", "sin")},
    **{n: n for n in ("cos", "tan", "sinh", "cosh", "tanh", "erf", "erfinv", "sigmoid")},
    **{f"a{n}": f"arc{n}" for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{f"arc{n}": f"arc{n}" for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "rad2deg": "degrees",
    "deg2rad": "radians",
    "special_expit": "sigmoid",
    "special_expm1": "expm1",
    "special_log1p": "log1p",
    "special_erf": "erf",
    "special_erfinv": "erfinv",
}


#: The same for functions that keep integers as they are.
KEEPING = {
    "abs": "abs",
    "absolute": "abs",
    "neg": "negative",
    "negative": "negative",
    "square": "square",
    "sign": "sign",
    "sgn": "sign",
    "conj": "conj",
    "_conj": "conj",
    "_conj_physical": "conj",
    "conj_physical": "conj",
    "logical_not": "logical_not",
    "isnan": "isnan",
    "isinf": "isinf",
    "isfinite": "isfinite",
    "isposinf": "isposinf",
    "isneginf": "isneginf",
}


ROUNDING = ("ceil", "floor", "trunc", "round")


def as_float(b: Builder, x: Node) -> Node:
    """Integers and booleans as float32, torch's default dtype; others as they are."""
    return x if is_float(x) or x.dtype == "complex64" else b.cast(x, "float32")


def _make_unary(name: str, theirs: str) -> Any:
    def function(b: Builder, self: Node) -> Node:
        return b.call(f"mx.{theirs}", as_float(b, self))

    function.__name__ = name
    return function


def _make_keeping(name: str, theirs: str) -> Any:
    def function(b: Builder, self: Node) -> Node:
        return (
            b.call("operator.neg", self) if theirs == "negative" else b.call(f"mx.{theirs}", self)
        )

    function.__name__ = name
    return function


for _name, _theirs in UNARY.items():
    lowers(f"aten::{_name}")(_make_unary(_name, _theirs))


for _name, _theirs in KEEPING.items():
    lowers(f"aten::{_name}")(_make_keeping(_name, _theirs))


def _make_rounding(name: str) -> Any:
    def function(b: Builder, self: Node) -> Node:
        return b.call(f"mx.{name}", self) if is_float(self) else self

    function.__name__ = name
    return function


for _name in (*ROUNDING, "fix"):
    lowers(f"aten::{_name}")(_make_rounding("trunc" if _name == "fix" else _name))


@lowers("aten::round.decimals")
def round_decimals(b: Builder, self: Node, decimals: int = 0) -> Node:
    """To a number of digits."""
    return b.call("mx.round", self, decimals) if is_float(self) else self


@lowers("aten::frac")
def frac(b: Builder, self: Node) -> Node:
    """What is left of the whole part, with the sign."""
    return b.call("operator.sub", self, b.call("mx.trunc", self))


@lowers("aten::nan_to_num")
def nan_to_num(
    b: Builder, self: Node, nan: Any = None, posinf: Any = None, neginf: Any = None
) -> Node:
    """NaN and infinities as numbers."""
    if not is_float(self):
        return self
    return b.call("mx.nan_to_num", self, nan=nan or 0.0, posinf=posinf, neginf=neginf)


@lowers("aten::signbit")
def signbit(b: Builder, self: Node) -> Node:
    """Whether the sign bit is set: of minus zero too."""
    if not is_float(self):
        return b.call("operator.lt", self, 0)
    words = {"float32": "uint32", "float16": "uint16", "bfloat16": "uint16"}
    if self.dtype not in words:
        raise Refuse(f"of {self.dtype}")
    word = words[self.dtype]
    held = b.call("mx.stop_gradient", self)  # a view of bits has no gradient, not even 0
    bits = b.call("mx.view", held, mx_dtype(word))
    return b.call("operator.ge", bits, 2 ** (int(word[4:]) - 1))


@lowers("aten::copysign")
def copysign(b: Builder, self: Node, other: Any) -> Node:
    """The magnitude of one with the sign of the other."""
    magnitude = b.call("mx.abs", as_float(b, self))
    if not isinstance(other, Node):
        return magnitude if math.copysign(1, other) > 0 else b.call("operator.neg", magnitude)
    sign = signbit(b, as_float(b, other))
    return b.call("mx.where", sign, b.call("operator.neg", magnitude), magnitude)


@lowers("aten::heaviside")
def heaviside(b: Builder, self: Node, values: Node) -> Node:
    """0 below zero, 1 above, `values` at zero."""
    step = b.cast(b.call("operator.gt", self, 0), self.dtype)
    return b.call("mx.where", b.call("operator.eq", self, 0), values, step)


@lowers("aten::xlogy", "aten::special_xlogy")
def xlogy(b: Builder, self: Any, other: Any) -> Node:
    """self * log(other), 0 where self is 0."""
    return _guarded(b, self, other, "log")


@lowers("aten::special_xlog1py")
def xlog1py(b: Builder, self: Any, other: Any) -> Node:
    """self * log(1 + other), 0 where self is 0."""
    return _guarded(b, self, other, "log1p")


def _guarded(b: Builder, x: Any, y: Any, name: str) -> Node:
    x, y = (as_float(b, b.array(v)) for v in (x, y))
    zero = b.call(
        "mx.logical_and",
        b.call("operator.eq", x, 0),
        b.call("mx.logical_not", b.call("mx.isnan", y)),
    )
    safe = b.call("mx.where", zero, 1.0, y)  # whose logarithm is no infinity times 0
    product = b.call("operator.mul", x, b.call(f"mx.{name}", safe))
    return b.call("mx.where", zero, 0.0, product)


@lowers("aten::logit", "aten::special_logit")
def logit(b: Builder, self: Node, eps: float | None = None) -> Node:
    """log(x / (1 - x))."""
    x = as_float(b, self)
    if eps is not None and eps >= 0:
        x = b.call("mx.clip", x, eps, 1 - eps)
    rest = b.call("operator.sub", 1, x)
    return b.call("mx.log", b.call("operator.truediv", x, rest))


@lowers("aten::sinc", "aten::special_sinc")
def sinc(b: Builder, self: Node) -> Node:
    """sin(pi x) / (pi x), 1 at 0."""
    angle = b.call("operator.mul", as_float(b, self), math.pi)
    zero = b.call("operator.eq", angle, 0)
    safe = b.call("mx.where", zero, 1.0, angle)
    ratio = b.call("operator.truediv", b.call("mx.sin", safe), safe)
    return b.call("mx.where", zero, 1.0, ratio)


@lowers("aten::exp2", "aten::special_exp2")
def exp2(b: Builder, self: Node) -> Node:
    """2 ** x."""
    return b.call("operator.pow", 2.0, as_float(b, self))


@lowers("aten::erfc", "aten::special_erfc")
def erfc(b: Builder, self: Node) -> Node:
    """1 - erf(x)."""
    return b.call("operator.sub", 1, b.call("mx.erf", as_float(b, self)))


@lowers("aten::positive")
def positive(b: Builder, self: Node) -> Node:
    """self."""
    return self


@lowers("aten::isreal")
def isreal(b: Builder, self: Node) -> Node:
    """Whether numbers have no imaginary part."""
    part = b.call("mx.imag", self) if self.dtype == "complex64" else b.call("mx.zeros_like", self)
    return b.call("operator.eq", part, 0)


@lowers("aten::ldexp")
def ldexp(b: Builder, self: Node, other: Node) -> Node:
    """self * 2 ** other."""
    return b.call("operator.mul", self, b.call("operator.pow", 2.0, as_float(b, other)))


@lowers("aten::special_ndtr")
def ndtr(b: Builder, self: Node) -> Node:
    """The normal distribution's cumulative function."""
    scaled = b.call("operator.truediv", as_float(b, self), math.sqrt(2))
    return b.call("operator.mul", 0.5, b.call("operator.add", 1, b.call("mx.erf", scaled)))


@lowers("aten::special_ndtri")
def ndtri(b: Builder, self: Node) -> Node:
    """Its inverse."""
    centred = b.call("operator.sub", b.call("operator.mul", 2, as_float(b, self)), 1)
    return b.call("operator.mul", math.sqrt(2), b.call("mx.erfinv", centred))
