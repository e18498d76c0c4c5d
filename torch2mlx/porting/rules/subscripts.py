"""Places of tensors and layers: `x[mask]`, `x[range(3)]`, `layers[0]`."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.names import is_target
from torch2mlx.porting.rules.place import Place, leaving
from torch2mlx.porting.rules.sequential import is_sequential, layers_of
from torch2mlx.porting.rules.text import as_int, code, expression

_FIRST_RATE = (".param_groups[0]['lr']", '.param_groups[0]["lr"]')


@leaving(cst.Subscript)
def _subscript(at: Place, original: cst.Subscript, updated: Any) -> Any:
    owner = at.type_of(original.value)
    updated = _places(at, original, updated)
    if is_sequential(at, original.value):
        made = updated.with_changes(value=layers_of(updated.value))
        some = isinstance(original.slice[0].slice, cst.Slice)
        return expression(f"nn.Sequential(*{code(made)})") if some else made
    if not at.grouped and _is_first_rate(original):
        options = updated.value.value.args[0].value  # of kit.training.param_groups
        return expression(f"{code(options)}.learning_rate")
    if owner.tensor and len(original.slice) == 1:
        place = original.slice[0].slice
        mask = isinstance(place, cst.Index) and at.type_of(place.value).name == "bool"
        if mask and not is_target(at, original.value):
            index = code(updated.slice[0].slice.value)
            at.change(original, "a mask as an index", "its length is read on the host")
            return expression(f"kit.indexing.masked_rows({code(updated.value)}, {index})")
    return updated


def _is_first_rate(node: cst.Subscript) -> bool:
    """Whether an expression is the learning rate of an optimizer's first group."""
    place = node.slice[0].slice
    named = isinstance(place, cst.Index) and isinstance(place.value, cst.SimpleString)
    return named and code(node).endswith(_FIRST_RATE)


def _places(at: Place, original: cst.Subscript, updated: cst.Subscript) -> cst.Subscript:
    """Places that MLX takes no part of: a `range` or an array of numpy in a tensor, bounds that
    are tensors."""
    parts = [
        new.with_changes(slice=_place(at, old.slice, new.slice, original.value))
        for old, new in zip(original.slice, updated.slice, strict=True)
    ]
    return updated.with_changes(slice=parts)


def _place(at: Place, old: Any, new: Any, owner: Any) -> Any:
    if isinstance(old, cst.Slice):
        bounds = {
            name: as_int(getattr(new, name))
            for name in ("lower", "upper", "step")
            if getattr(old, name) is not None and at.type_of(getattr(old, name)).tensor
        }
        return new.with_changes(**bounds)
    held, kind = at.type_of(owner).kind, at.type_of(old.value).kind
    text = code(new.value)
    if held == "tensor" and kind == "numpy":
        return cst.Index(expression(f"mx.array({text})"))
    if held not in ("tensor", "unknown") or kind != "range":
        return new
    literal = text.startswith("range(")
    made = f"mx.arange{text[5:]}" if literal else f"mx.array(list({text}))"
    return cst.Index(expression(made))
