"""Writes past the gradient that is taken: to the data of a tensor, `x.data.clamp_()`, and to a part
of one under no_grad, `x[0] = y`. Its numbers change, and its gradient goes on as if they had not.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.no_grad import leaves_stopped
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.requires_grad import small
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types.views import is_data, without_data

_WHY = (
    "it changes numbers past autograd, also those that torch keeps for gradients: write "
    "x = x + (new - x).detach(), or change x under no_grad"
)
_PAST = "torch's gradient goes on past what no_grad writes: write x = x + (new - x).detach()"


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


def _is_past(at: Place, target: Any) -> Any:
    """The tensor of which a part is written under no_grad, and that is read elsewhere; or None."""
    root = target
    while isinstance(root, cst.Subscript):
        root = root.value
    local = isinstance(root, cst.Name) and root is not target and at.type_of(root).tensor
    stops = local and leaves_stopped(at, root) and at.type_of(root).name != "bool"
    return root if stops else None


def past_graph(at: Place, target: Any, made: Any) -> Any:
    """What a write to a part of a tensor becomes where no_grad holds: torch's gradient goes on to
    what the part was computed from."""
    if isinstance(target, (cst.Tuple, cst.List)):
        if any(_is_past(at, element.value) is not None for element in target.elements):
            at.refuse(target, _PAST, code=Code.UNCLEAR)
        return made
    root = _is_past(at, target)
    if root is None:
        return made
    if isinstance(made, cst.Assign) and len(made.targets) == 1:
        place, value = made.targets[0].target, code(made.value)
    elif isinstance(made, cst.AugAssign):
        sign = code(made.operator).strip().removesuffix("=")
        if sign in "+-":
            return made  # a sum has the gradient of its first part
        place, value = made.target, f"{code(made.target)} {sign} ({code(made.value)})"
    else:
        at.refuse(target, _PAST, code=Code.UNCLEAR)
        return made
    whole = root.value if code(place) == f"{root.value}[...]" else code(place)
    return small(f"{code(place)} = kit.training.overwritten({whole}, {value})")
