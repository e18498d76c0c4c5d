"""Writes to the rows that a mask says: `x[mask] = y[mask]`, `x[mask] += 1`.

MLX reads no rows by a mask, takes no values for a mask that is false everywhere, and has no
gradient where the mask comes from what is differentiated; the kit does all of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from torch2mlx.porting.rules.text import code
from torch2mlx.porting.types.kinds import Type

TypeOf = Callable[[Any], Type]


def assigned(original: cst.Assign, updated: cst.Assign, type_of: TypeOf) -> cst.Assign | None:
    """An assignment to rows, anew; None for others."""
    if len(original.targets) != 1:
        return None
    parts = _parts(original.targets[0].target, updated.targets[0].target, type_of)
    return None if parts is None else _written(*parts, code(updated.value))


def changed(original: cst.AugAssign, updated: cst.AugAssign, type_of: TypeOf) -> cst.Assign | None:
    """`x[mask] += y` as an assignment; None for others."""
    parts = _parts(original.target, updated.target, type_of)
    if parts is None:
        return None
    sign = code(original.operator).strip().removesuffix("=")
    held = f"kit.indexing.masked_rows({', '.join(parts)})"
    return _written(*parts, f"{held} {sign} ({code(updated.value)})")


def _parts(target: Any, new: Any, type_of: TypeOf) -> tuple[str, str] | None:
    """The tensor that is written to, and the mask, as they are written in MLX."""
    if not isinstance(target, cst.Subscript) or len(target.slice) != 1:
        return None
    place = target.slice[0].slice
    if not isinstance(place, cst.Index) or not type_of(target.value).tensor:
        return None
    if type_of(place.value).name != "bool":
        return None
    return code(new.value), code(new.slice[0].slice.value)


def _written(owner: str, mask: str, value: str) -> cst.Assign:
    made = f"{owner}[...] = kit.indexing.masked_rows_put({owner}, {mask}, {value})"
    line: Any = cst.parse_statement(made)
    written: cst.Assign = line.body[0]
    return written
