"""Attributes that are None in torch and that MLX's layers lack: a bias that was not asked for."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.exact_types import of_types
from torch2mlx.porting.rules.numpy_operands import of_comparison
from torch2mlx.porting.rules.place import Place, leaving
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types.kinds import UNKNOWN, Type


def compared_with_none(
    original: cst.Comparison, updated: cst.Comparison, owner: Type
) -> cst.Comparison:
    """`layer.bias is not None`: MLX's layers lack the attribute where torch's is None; `owner`: the
    type of what has the attribute."""
    left = original.left
    asked = len(original.comparisons) == 1 and isinstance(
        original.comparisons[0].operator, (cst.Is, cst.IsNot)
    )
    if (
        not asked
        or not isinstance(left, cst.Attribute)
        or not isinstance(updated.left, cst.Attribute)
    ):
        return updated
    named = left.attr.value in ("bias", "weight") and dotted(left.value) != "self"
    if not named or owner.kind not in ("module", "unknown"):
        return updated
    receiver = code(updated.left.value)
    return updated.with_changes(left=expression(f'getattr({receiver}, "{left.attr.value}", None)'))


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


@leaving(cst.Comparison)
def _comparison(at: Place, original: Any, updated: cst.Comparison) -> Any:
    left = original.left
    updated = of_types(at, original, of_comparison(at, original, updated))
    owner = at.type_of(left.value) if isinstance(left, cst.Attribute) else UNKNOWN
    return compared_with_none(original, updated, owner)
