"""Writes to a part of a part, `x[i][j] = y`: in torch x[i] is a view of x, in MLX an array of its
own, which has to be put back."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from torch2mlx.kit.indexing import masked_rows, masked_rows_put

_OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "@": operator.matmul,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}


def put(x: Any, places: Sequence[Any], value: Any) -> None:
    """`x[places[0]][places[1]]... = value`, of arrays and of lists, dicts or numpy's arrays."""
    place, *inner = places
    if not inner:
        _set(x, place, value)
        return
    part = _part(x, place)
    put(part, inner, value)
    _give_back(x, place, part)


def change(x: Any, places: Sequence[Any], operation: str, value: Any) -> None:
    """`x[places[0]][places[1]]... operation= value`, as in "+", of what `put` takes."""
    place, *inner = places
    part = _part(x, place)
    if not inner:
        _set(x, place, _OPERATIONS[operation](part, value))
        return
    change(part, inner, operation, value)
    _give_back(x, place, part)


def _give_back(x: Any, place: Any, part: Any) -> None:
    if isinstance(x, mx.array) and _is_view(place):
        x[... if place is None else place] = part.reshape(x.shape) if place is None else part


def _part(x: Any, place: Any) -> Any:
    return masked_rows(x, place) if _is_mask(x, place) else x[place]


def _set(x: Any, place: Any, value: Any) -> None:
    if _is_mask(x, place):
        x[...] = masked_rows_put(x, place, value)
    else:
        x[place] = value


def _is_mask(x: Any, place: Any) -> bool:
    known = isinstance(x, mx.array) and isinstance(place, mx.array)
    return known and place.dtype == mx.bool_ and place.ndim > 0


def _is_view(place: Any) -> bool:
    """Whether torch's x[place] is a view of x; what lists, arrays and truth values take is new."""
    if isinstance(place, tuple):
        return all(map(_is_view, place))
    if isinstance(place, mx.array):
        return place.ndim == 0 and place.dtype != mx.bool_
    return not isinstance(place, (bool, list)) and getattr(place, "ndim", 0) == 0
