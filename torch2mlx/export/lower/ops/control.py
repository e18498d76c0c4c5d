"""Operators that are no arithmetic: profiling, devices, checks."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers


@lowers("aten::is_nonzero", "aten::_nested_tensor_size")
def is_nonzero(b: Builder, self: Node) -> Any:
    """A truth that steers the program."""
    from torch2mlx.export.ir.builder import Refuse

    raise Refuse("a number in an array steers the program")


@lowers("profiler::_record_function_enter_new", "profiler::_record_function_exit")
def record_function(b: Builder, **_: Any) -> None:
    """Nothing: marks for a profiler."""
    return None
