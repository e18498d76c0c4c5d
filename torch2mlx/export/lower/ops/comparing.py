"""Comparisons, logic, bits."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.elementwise import promoted
from torch2mlx.export.lower.ops.registry import lowers

COMPARING = {
    **{"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"},
    **{"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "not_equal": "ne"},
}


def _make_comparing(name: str, theirs: str) -> Any:
    def function(b: Builder, self: Any, other: Any) -> Node:
        return b.call(f"operator.{theirs}", self, other)

    function.__name__ = name
    return function


for _name, _theirs in COMPARING.items():
    lowers(f"aten::{_name}")(_make_comparing(_name, _theirs))


def _make_logical(name: str) -> Any:
    def function(b: Builder, self: Any, other: Any) -> Node:
        return b.call(f"mx.{name}", b.array(self), b.array(other))

    function.__name__ = name
    return function


for _name in ("logical_and", "logical_or"):
    lowers(f"aten::{_name}")(_make_logical(_name))


@lowers("aten::logical_xor")
def logical_xor(b: Builder, self: Node, other: Node) -> Node:
    """Whether one of two is true."""
    return b.call("operator.ne", *(b.cast(x, "bool") for x in (self, other)))


BITS = {"and": "and_", "or": "or_", "xor": "xor"}


def _make_bits(name: str, theirs: str) -> Any:
    def function(b: Builder, self: Any, other: Any) -> Node:
        if b.dtype == "bool" and theirs == "xor":
            return b.call("operator.ne", self, other)
        return b.call(f"operator.{theirs}", self, other)

    function.__name__ = f"bitwise_{name}"
    return function


for _name, _theirs in BITS.items():
    lowers(f"aten::__{_name}__", f"aten::bitwise_{_name}", f"aten::__i{_name}__")(
        _make_bits(_name, _theirs)
    )


@lowers("aten::bitwise_not")
def bitwise_not(b: Builder, self: Node) -> Node:
    """~self."""
    return (
        b.call("operator.invert", self) if self.dtype != "bool" else b.call("mx.logical_not", self)
    )


@lowers("aten::bitwise_left_shift", "aten::__lshift__")
def left_shift(b: Builder, self: Any, other: Any) -> Node:
    """self << other."""
    return b.call("mx.left_shift", b.array(self), other)


@lowers("aten::bitwise_right_shift", "aten::__rshift__")
def right_shift(b: Builder, self: Any, other: Any) -> Node:
    """self >> other."""
    return b.call("mx.right_shift", b.array(self), other)


@lowers(
    "aten::where.self", "aten::where.ScalarSelf", "aten::where.ScalarOther", "aten::where.Scalar"
)
def where(b: Builder, condition: Node, self: Any, other: Any) -> Node:
    """self where the condition holds, else other."""
    x, y = promoted(b, self, other)
    if not isinstance(x, Node) and not isinstance(y, Node) and b.dtype:
        x = b.array(x, b.dtype)
    return b.call("kit.kinks.where" if b.selecting else "mx.where", condition, x, y)


@lowers("aten::masked_fill")
def masked_fill(b: Builder, self: Node, mask: Node, value: Any) -> Node:
    """value where the mask holds."""
    value = b.cast(value, self.dtype) if isinstance(value, Node) else value
    return b.call("kit.kinks.where" if b.selecting else "mx.where", mask, value, self)


def _euclid(name: str) -> None:
    def function(b: Builder, self: Node, other: Node) -> Node:
        return b.call(f"kit.sorting.{name}", self, other)

    function.__name__ = name
    lowers(f"aten::{name}")(function)


_euclid("gcd")
_euclid("lcm")
