"""Writes to the data of a tensor where gradients are taken, `x.data.clamp_()`: its numbers change,
and its gradient goes on as if they had not."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.requires_grad import small
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types.views import is_data, without_data

_WHY = (
    "it changes numbers past autograd, also those that torch keeps for gradients: write "
    "x = x + (new - x).detach(), or change x under no_grad"
)


def past_gradient(at: Place, target: Any) -> bool:
    """Whether a place of the source is data, or a part of it, of what a gradient goes through."""
    if not at.functions or at.functions[-1] not in at.file.traced:
        return False
    whole, data = target, False
    while isinstance(whole, cst.Subscript) or is_data(whole):
        data, whole = data or is_data(whole), whole.value
    buffer = isinstance(whole, cst.Attribute) and whole.attr.value in at.file.buffers
    tensor = at.type_of(whole).kind in ("tensor", "unknown") and dotted(whole) != "self"
    return data and tensor and not buffer and isinstance(whole, (cst.Name, cst.Attribute))


def numbers_of(at: Place, target: Any, value: str) -> Any:
    """The statement that gives an attribute other numbers and leaves its gradient; None where that
    is refused: values on the way to a loss, of which torch may have kept the old numbers."""
    place = without_data(target)
    if not isinstance(place, cst.Attribute):
        at.refuse(target, _WHY, code=Code.UNCLEAR)
        return None
    name = at.text(place)
    at.change(target, "data", "its numbers change, its gradient does not")
    return small(f"{name} = kit.training.overwritten({name}, {value})")
