"""Copies of first weights that a script took before it got torch's: they get torch's as well.

An average of weights, an anchor of a penalty or a best state is often copied from a model before
its optimizer is made. What a script holds then, by whatever names, is known by its numbers: those
of one array of the models or of several one after the other, in MLX's layout or in torch's.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch2mlx.lockstep.matching import Match

#: Objects that are looked at; who holds more holds data.
MOST = 200_000


@dataclass(frozen=True)
class Changed:
    """An array of a model: the items that it had, and those that it has from torch."""

    old: np.ndarray
    new: np.ndarray


def reached(values: Iterable[Any], folder: str, kind: type) -> Iterator[Any]:
    """The objects of a class in what `values` hold: containers, attributes, and what functions of
    the scripts in a folder enclose."""
    waiting, seen = list(values), set[int]()
    while waiting and len(seen) < MOST:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, (str, bytes, int, float, type, types.ModuleType)):
            continue
        seen.add(id(value))
        if isinstance(value, kind):
            if type(value) is kind:  # others stand for parts of a layer's weights
                yield value
            continue
        waiting += _inside(value, folder)


def _inside(value: Any, folder: str) -> list[Any]:
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if isinstance(value, types.FunctionType):
        own = value.__code__.co_filename.startswith(folder)
        return [*_enclosed(value), *(value.__defaults__ or ())] if own else []
    held = list(value.values()) if isinstance(value, Mapping) else []
    if isinstance(value, (Sequence, set, frozenset)):
        held += list(value)
    return held + list(getattr(value, "__dict__", {}).values())


def _enclosed(function: types.FunctionType) -> list[Any]:
    held = []
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:
            continue  # a name that has no value yet
    return held


def in_torch_layout(
    pairs: Sequence[tuple[Match, np.ndarray]], given: Mapping[str, np.ndarray]
) -> list[Changed]:
    """Torch's tensors in torch's order of items: the items that MLX had there, and torch's.

    Those alone of which MLX has every item.
    """
    before: dict[str, np.ndarray] = {}
    for match, old in pairs:
        if match.index is None or len(match.sources) != 1 or match.shape != old.shape:
            continue
        values = given[match.sources[0]]
        flat = before.setdefault(match.sources[0], np.full(values.size, np.nan, np.float64))
        flat[match.index] = old.reshape(-1)
    whole = (name for name in given if name in before and not np.isnan(before[name]).any())
    return [Changed(before[name], np.asarray(given[name]).reshape(-1)) for name in whole]


class Copies:
    """Finds arrays whose items are those that models had, and says which they have now."""

    def __init__(self, orders: Sequence[Sequence[Changed]]) -> None:
        self.orders = [[c for c in order if c.old.size] for order in orders]

    def of(self, values: np.ndarray) -> np.ndarray | None:
        """The items that an array should have; None where it is no copy of first weights."""
        flat = values.reshape(-1)
        if not _tells(flat):
            return None
        for order in self.orders:
            parts = list(_parts(flat, order))
            if parts and sum(part.new.size for part in parts) == flat.size:
                return np.concatenate([part.new.reshape(-1) for part in parts]).reshape(
                    values.shape
                )
        return None


def _tells(flat: np.ndarray) -> bool:
    """Whether items say where they come from: constants and round numbers are of many places."""
    if flat.size == 1:
        return bool(flat[0] * 64 % 1)
    return bool(flat.size and np.ptp(flat))


def _parts(flat: np.ndarray, order: Sequence[Changed]) -> Iterator[Changed]:
    """The arrays whose items stand one after the other in `flat`, as far as they do: of several
    with the same items the one that is declared next."""
    at, last = 0, -1
    while at < flat.size:
        following = [*range(last + 1, len(order)), *range(last + 1)]
        found = next((i for i in following if _stands(flat, at, order[i].old)), None)
        if found is None:
            return
        yield order[found]
        at, last = at + order[found].old.size, found


def _stands(flat: np.ndarray, at: int, old: np.ndarray) -> bool:
    part = flat[at : at + old.size]
    first = old.reshape(-1)[0]
    return part.size == old.size and part[0] == first and bool((part == old.reshape(-1)).all())


def give_copies(
    copies: Copies,
    arrays: Iterable[Any],
    host: Callable[[Any], Any],
    put: Callable[[Any, Any], Any],
) -> None:
    """Has each array that is a copy of first weights hold torch's, under all names that it has."""
    for array in arrays:
        values = host(array)
        new = None if values is None else copies.of(values)
        if new is not None:
            array[...] = put(new, array.dtype)
