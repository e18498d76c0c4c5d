"""Branches for a loss scaler: the one without it stays, because MLX needs no scaling.

if scaler is not None:                      loss.backward()
    scaler.scale(loss).backward()           optimizer.step()
    scaler.step(optimizer)           ->
else:
    loss.backward()
    optimizer.step()
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.traversal import calls


class WithoutScalers(cst.CSTTransformer):
    """Takes the plain branch wherever a statement has one with a scaler and one without."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> Any:
        other = updated_node.orelse
        if not isinstance(other, cst.Else):
            return updated_node
        kinds = [_backward(branch) for branch in (updated_node.body, other.body)]
        if sorted(kinds) != ["plain", "scaled"]:
            return updated_node
        why = "loss scaling is for float16 on CUDA: the branch without it stays"
        self._report.change(original_node, "scaler", why)
        kept = updated_node.body if kinds[0] == "plain" else other.body
        statements = list(kept.body)
        if statements and hasattr(statements[0], "leading_lines"):
            lines = [*updated_node.leading_lines, *statements[0].leading_lines]
            statements[0] = statements[0].with_changes(leading_lines=lines)
        return cst.FlattenSentinel(statements)


def _backward(branch: Any) -> str:
    """ "scaled" for `scaler.scale(loss).backward()`, "plain" for `loss.backward()`, or ""."""
    for call in calls(branch):
        func = call.func
        if isinstance(func, cst.Attribute) and func.attr.value == "backward":
            inner: Any = func.value
            scaled = isinstance(inner, cst.Call) and isinstance(inner.func, cst.Attribute)
            return "scaled" if scaled and inner.func.attr.value == "scale" else "plain"
    return ""
