"""Writes to a part of a part: `x[i][j] = y` is `x[i, j] = y`, as x[i] is an array of its own in
MLX, where torch has a view."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.parameter_loops import loop_of, place_text, whole
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.views import is_data, without_data

_ONE = "it writes to a part of a part of a parameter: give the places in one index, as in [i, j]"
_SEVERAL = "it writes to a part of a part among other targets: give it a line of its own"


def is_chained(at: Place, target: Any) -> bool:
    """Whether a place of the source is a part of a part of what may be a tensor."""
    return len(_chain(at, target)) > 1


def put(at: Place, original: Any, updated: Any, value: str, operation: str = "") -> str:
    """`x[i][j] = value`, or `x[i][j] += value`, where `original` is such a place; "" where it is
    refused."""
    chain = _chain(at, original)
    if loop_of(at, code(whole(original))) is not None or _is_weight(chain[0].value):
        at.refuse(original, _ONE, code=Code.UNCLEAR)
        return ""
    places: list[str] = []
    owner = updated
    for _ in chain:
        place, owner = _split(without_data(owner))
        places.insert(0, place)
    held = code(without_data(owner))
    at.change(original, "x[i][j] = y", "a part of an array is an array of its own")
    plain = all(_is_number(at, part) for part in chain[:-1]) and _is_basic(at, chain[-1])
    if plain and at.type_of(chain[0].value).tensor:
        inside = ", ".join(_inside(part) for part in _subscripts(updated, len(chain)))
        return f"{held}[{inside}] {operation}= {value}"
    told = f"{held}, ({', '.join(places)})"
    if operation:
        return f'kit.parts.change({told}, "{operation}", {value})'
    return f"kit.parts.put({told}, {value})"


def _split(node: Any) -> tuple[str, Any]:
    """The place of a subscript, or of the rows of a mask, and what it is of."""
    if isinstance(node, cst.Call):  # kit.indexing.masked_rows
        return code(node.args[1].value), node.args[0].value
    return place_text(node), node.value


def _subscripts(node: Any, count: int) -> list[Any]:
    """That many subscripts, innermost first."""
    found: list[Any] = []
    while len(found) < count:
        found.insert(0, without_data(node))
        node = without_data(node).value
    return found


def refuse_among(at: Place, statement: cst.Assign) -> None:
    """Refuses such places among several targets."""
    for each in statement.targets:
        several = each.target.elements if isinstance(each.target, (cst.Tuple, cst.List)) else ()
        parts = [element.value for element in several]
        if len(statement.targets) > 1:
            parts.append(each.target)
        if any(is_chained(at, part) for part in parts):
            at.refuse(statement, _SEVERAL, code=Code.UNCLEAR)


def _chain(at: Place, target: Any) -> list[cst.Subscript]:
    """The subscripts of a place, innermost first, from the first that a tensor may have on."""
    found: list[cst.Subscript] = []
    while isinstance(target, cst.Subscript) or (found and is_data(target)):
        if isinstance(target, cst.Subscript):
            found.append(target)
        target = target.value
    found.reverse()
    while found and not _may_be_tensor(at, found[0]):
        found.pop(0)
    return found


def _may_be_tensor(at: Place, part: cst.Subscript) -> bool:
    if any(isinstance(p, cst.Attribute) and p.attr.value == "param_groups" for p in walk(part)):
        return False  # groups of an optimizer, and their options
    kind = at.type_of(part.value)
    place: Any = part.slice[0].slice
    key = isinstance(place, cst.Index) and at.type_of(place.value).kind == "str"
    return kind.tensor or (kind.kind == "unknown" and not key)


def _is_number(at: Place, part: cst.Subscript) -> bool:
    """Whether a subscript is of whole numbers, behind which more places may be written."""
    inside = [element.slice for element in part.slice]
    return all(isinstance(s, cst.Index) and at.type_of(s.value).kind == "int" for s in inside)


def _is_basic(at: Place, part: cst.Subscript) -> bool:
    """Whether a subscript is of whole numbers and slices."""
    inside: list[Any] = [element.slice for element in part.slice]
    return all(isinstance(s, cst.Slice) or at.type_of(s.value).kind == "int" for s in inside)


def _inside(part: Any) -> str:
    return ", ".join(
        code(element.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for element in part.slice
    )


def _is_weight(node: Any) -> bool:
    """Whether a tensor is a weight that a layer is asked for."""
    return isinstance(node, cst.Call) and dotted(node.func).startswith(f"{KIT}.weights.")
