"""Branches that differ by devices alone: one of them, as there is one memory.

if use_cuda:                                    y = net(x)
    y = net(x.cuda())                   ->
else:
    y = net(x)
"""

from __future__ import annotations

import ast
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted

MARK = ".cuda"
_PLAIN = (cst.Name, cst.Attribute)
_ASKED = ("torch.cuda.is_available", "cuda.is_available")


class SameBranches(cst.CSTTransformer):
    """Writes out the branch without devices where a condition is a name, which nothing changes."""

    def __init__(self) -> None:
        super().__init__()
        self._within: set[Any] = set()  # conditions that are the `elif` of another

    def visit_If(self, node: cst.If) -> None:
        self._within.add(node.orelse)

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> Any:
        """The statements of the last branch, where the first says the same."""
        last = updated_node.orelse
        block = last.body if isinstance(last, cst.Else) else None
        if original_node in self._within or not isinstance(block, cst.IndentedBlock):
            return updated_node
        if not _is_plain(updated_node.test):
            return updated_node
        if _without_devices(updated_node.body) != _without_devices(block):
            return updated_node
        first: Any = block.body[0]
        above = [*updated_node.leading_lines, *first.leading_lines]
        return cst.FlattenSentinel([first.with_changes(leading_lines=above), *block.body[1:]])


def _is_plain(test: Any) -> bool:
    """Whether a condition is a name, its negation or a question for a device."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return _is_plain(test.expression)
    asked = isinstance(test, cst.Call) and not test.args and dotted(test.func) in _ASKED
    return asked or (isinstance(test, _PLAIN) and bool(dotted(test)))


def _without_devices(block: Any) -> str:
    """The statements of a block, without what moves to a device, comments and spaces."""
    made: Any = block.visit(_Stripped())
    inline = isinstance(made, cst.SimpleStatementSuite)
    lines: Any = [cst.SimpleStatementLine(made.body)] if inline else made.body
    return ast.dump(ast.parse(cst.Module(lines).code))


class _Stripped(cst.CSTTransformer):
    """Takes `.cuda()` away, and the `cuda` of torch's older types."""

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        func: Any = updated_node.func
        return func.value if _is_move(func) else updated_node

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        inner = updated_node.value
        typed = updated_node.attr.value.endswith("Tensor") and dotted(inner) == "torch.cuda"
        return updated_node.with_changes(value=cst.Name("torch")) if typed else updated_node


def _is_move(func: Any) -> bool:
    return isinstance(func, cst.Attribute) and func.attr.value in ("cuda", "cpu")
