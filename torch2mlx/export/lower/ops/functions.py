"""Functions of one number: exp and its kin, rounding, special ones."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, is_float
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers

ROUNDING = ("ceil", "floor", "trunc", "round")


def as_float(b: Builder, x: Node) -> Node:
    """Integers and booleans as float32, torch's default dtype; others as they are."""
    return x if is_float(x) or x.dtype == "complex64" else b.cast(x, "float32")


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


@lowers("aten::nan_to_num")
def nan_to_num(
    b: Builder, self: Node, nan: Any = None, posinf: Any = None, neginf: Any = None
) -> Node:
    """NaN and infinities as numbers."""
    if not is_float(self):
        return self
    return b.call("mx.nan_to_num", self, nan=nan or 0.0, posinf=posinf, neginf=neginf)
