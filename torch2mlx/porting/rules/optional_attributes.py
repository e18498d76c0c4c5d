"""Attributes that are None in torch and that MLX's layers lack: a bias that was not asked for."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.context import code, expression
from torch2mlx.porting.rules.statements import Statements
from torch2mlx.porting.scopes.import_table import dotted


class Absent(Statements):
    """Rewrites questions whether a layer has a bias or a weight."""

    def leave_Comparison(self, original_node: Any, updated_node: cst.Comparison) -> Any:
        """`layer.bias is not None`: MLX's layers lack the attribute where torch's is None."""
        left = original_node.left
        absent = len(original_node.comparisons) == 1 and isinstance(
            original_node.comparisons[0].operator, (cst.Is, cst.IsNot)
        )
        if absent and isinstance(left, cst.Attribute) and left.attr.value in ("bias", "weight"):
            owner = self.type_of(left.value).kind in ("module", "unknown")
            own = dotted(left.value) == "self"
            if owner and not own and isinstance(updated_node.left, cst.Attribute):
                receiver = code(updated_node.left.value)
                reading = expression(f'getattr({receiver}, "{left.attr.value}", None)')
                return updated_node.with_changes(left=reading)
        return updated_node


def asking(original: cst.Call, updated: cst.Call) -> cst.Call:
    """`exists(layer.bias)`: a function of the file is told None where MLX's layer has no bias."""
    args = []
    for old, new in zip(original.args, updated.args, strict=True):
        if isinstance(old.value, cst.Attribute) and old.value.attr.value == "bias":
            owner = code(new.value.value) if isinstance(new.value, cst.Attribute) else "self"
            if owner != "self":
                new = new.with_changes(value=expression(f'getattr({owner}, "bias", None)'))
        args.append(new)
    return updated.with_changes(args=args)
