"""Operators that change no number: copies, casts, checks."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.capture.demands import NAMESPACE, error_of
from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers


def _same(*names: str) -> None:
    def function(b: Builder, self: Node, **_: Any) -> Node:
        return self

    function.__name__ = names[0]
    lowers(*(f"aten::{name}" for name in names))(function)


_same("alias", "contiguous", "clone", "lift_fresh_copy", "lift", "lift_fresh")


_same("resolve_conj", "resolve_neg", "alias_copy", "cpu", "cuda")


@lowers("aten::detach", "aten::detach_copy")
def detach(b: Builder, self: Node) -> Node:
    """The value without its gradient."""
    return (
        b.call("mx.stop_gradient", self)
        if "float" in self.dtype or "complex" in self.dtype
        else self
    )


@lowers("aten::to", "aten::_to_copy", "aten::type_as", "prims::convert_element_type")
def to(b: Builder, self: Node, **_: Any) -> Node:
    """Another dtype."""
    return b.cast(self, b.dtype) if b.dtype else self


def _checks(*names: str) -> None:
    def function(b: Builder, **_: Any) -> None:
        return None

    function.__name__ = "no_check"
    lowers(*(f"aten::{name}" for name in names))(function)


_checks("_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size")


_checks("promote_types", "result_type")  # answered while the model was traced


@lowers("aten::_assert_async", "aten::_functional_assert_async", "aten::_assert_scalar")
def demand(b: Builder, self: Any, assert_msg: str = "", **_: Any) -> None:
    """What the forward demands of values: a statement of the file. What torch found out itself of
    numbers that it reads is none."""
    error = error_of(assert_msg)
    if error is None or not isinstance(self, Node):
        return
    wanted = self.op not in ("mx.logical_not", "operator.not_")
    condition = self if wanted else self.args[0]
    b.add(Node("demand", (condition, wanted, *error), {}, None))


@lowers(f"{NAMESPACE}::holds")
def holds(b: Builder, condition: Any, told: str) -> None:
    """The same of a truth made of numbers."""
    demand(b, condition, told)


@lowers("aten::sym_size")
def sym_size(b: Builder, self: Node, dim: int) -> Any:
    """The length of an axis."""
    return b.dim(self, dim)


@lowers("aten::sym_numel")
def sym_numel(b: Builder, self: Node) -> Any:
    """The number of items."""
    return b.size(self, range(self.ndim))
