"""Operators that change no number: copies, casts, checks."""

from __future__ import annotations

from typing import Any

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


_checks("_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_constrain_range")


_checks("sym_constrain_range_for_size", "_functional_assert_async")


@lowers("aten::sym_size")
def sym_size(b: Builder, self: Node, dim: int) -> Any:
    """The length of an axis."""
    return b.dim(self, dim)


@lowers("aten::sym_numel")
def sym_numel(b: Builder, self: Node) -> Any:
    """The number of items."""
    return b.size(self, range(self.ndim))
