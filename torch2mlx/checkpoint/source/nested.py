"""Finding the state dict inside what people save: {"state_dict": ..., "optimizer": ...}.

A state dict is told from what else holds tensors by what it is made of. Weights are matrices, or
most entries of their dict; scores, counters and random states are tensors without dimensions,
vectors of integers, or single vectors among numbers and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.source.holdings import (
    Holdings,
    describe,
    is_container,
    is_optimizer,
    is_weight,
)
from torch2mlx.common.amounts import listed
from torch2mlx.common.options import given, option
from torch2mlx.errors import AmbiguousCheckpointError, CheckpointError

ROOT = "."
#: Longer paths, and more of them, are not listed.
_MAX_PATH = 1000
_MAX_LISTED = 20
_SHOWN_NOTES = 5
#: What trainers call the places of their own state, which can hold averaged or moving weights.
_TRAINER = re.compile(r"^(callbacks|loops|optims?|opt(im)?_states?)$|optimizer|scheduler")


@dataclass(frozen=True, slots=True)
class _Place:
    """A container that can be reached, and the way to it."""

    value: Any
    name: str
    parent: _Place | None

    def path(self) -> str:
        """The names on the way, joined with dots; cut where it is far too long."""
        names: list[str] = []
        place: _Place | None = self
        while place is not None and place.parent is not None:
            names.append(place.name[: _MAX_PATH + 1])
            place = place.parent
        return ".".join(reversed(names))[: _MAX_PATH + 1] or ROOT


@dataclass(frozen=True)
class Found:
    """A state dict, the dotted path to it (`"."`: the object itself), and what was left alone."""

    path: str
    state: Mapping[Any, Any]
    notes: tuple[str, ...] = ()


def is_key(name: Any) -> bool:
    """Whether a state dict can have a tensor of this name: text, or a number."""
    return isinstance(name, (str, int)) and not isinstance(name, bool)


def _inner(place: _Place, deep: bool) -> Iterator[_Place]:
    """The places directly within one. `deep`: also in lists and, within what was saved, under
    numbers."""
    value = place.value
    numbers = deep or place.parent is None
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, child in pairs:
        if not (is_container(child) or isinstance(child, _core.Foreign)) or not _opens(child, deep):
            continue
        named = not name.endswith("_extra_state") if isinstance(name, str) else numbers
        if named and is_key(name):
            yield _Place(child, str(name), place)


def _opens(value: Any, deep: bool) -> bool:
    """Whether there can be a state dict in a value, or data in an opaque one."""
    if isinstance(value, _core.Foreign):
        return value.holds_data
    return bool(value) and (deep or not isinstance(value, (list, tuple)))


def _places(tree: Any, deep: bool) -> Iterator[_Place]:
    """Every container and every opaque value, once, parents first; not within optimizers."""
    seen: set[int] = set()
    waiting = [_Place(tree, "", None)]
    while waiting:
        place = waiting.pop()
        value = place.value
        if isinstance(value, _core.Foreign):
            yield place
        elif (isinstance(value, Mapping) or (deep and is_container(value))) and not (
            id(value) in seen or is_optimizer(value)
        ):
            seen.add(id(value))
            yield place
            waiting += reversed(list(_inner(place, deep)))


def _own(place: _Place, seen: set[int]) -> Iterator[tuple[Any, Iterator[Any]]]:
    """(key, tensors) of the entries of a dict that are tensors, or lists that may have some."""
    items = place.value.items() if isinstance(place.value, Mapping) else ()
    for key, value in items:
        if not is_key(key):
            continue
        if isinstance(value, (list, tuple)):
            yield key, _listed(value, seen)
        elif is_weight(value) and not _closed(value):
            yield key, iter((value,))


def _closed(value: Any) -> bool:
    """Whether a value is opaque, so that nobody knows what kind of tensors it holds."""
    return isinstance(value, _core.Foreign) and not value.is_tensor


def _listed(value: Any, seen: set[int]) -> Iterator[Any]:
    """Tensors in a list and lists within it, each list once in all."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for item in current:
            if isinstance(item, (list, tuple)):
                waiting.append(item)
            elif is_weight(item) and not _closed(item):
                yield item


@lru_cache(maxsize=256)
def _fractional(dtype: Any) -> bool:
    """Whether a dtype of any library has fractions; numpy takes its time to name one."""
    name = str(dtype)
    return "float" in name or "complex" in name


def _kind(tensor: Any) -> tuple[int, bool]:
    """(dimensions, whether it has fractions); two dimensions where they are not known."""
    if isinstance(tensor, _core.Foreign):
        return (2, True) if tensor.shape is None else (len(tensor.shape), _fractional(tensor.name))
    if type(tensor).__name__.startswith("Uninitialized"):
        return 2, True
    raw = tensor.tensor if isinstance(tensor, _core.Unresolved) else tensor
    rank = getattr(raw, "ndim", None)  # a nested tensor of torch has that, and no shape
    if rank is None:
        rank = len(getattr(raw, "shape", ()))
    return rank, _fractional(getattr(raw, "dtype", ""))


@dataclass(frozen=True)
class _Candidate:
    """A dict with tensors of its own: a matrix, vectors with fractions, and how many entries."""

    place: _Place
    matrix: bool
    vector: bool
    most: bool

    @property
    def strong(self) -> bool:
        """Whether it can be nothing but a state dict."""
        return self.matrix or (self.vector and self.most)


def _candidate(place: _Place, seen: set[int]) -> _Candidate | None:
    """What a container with tensors of its own is, looked at until it is sure."""
    entries, matrix, vector, dotted = 0, False, False, False
    for key, tensors in _own(place, seen):
        kinds = [_kind(tensor) for tensor in tensors]
        matrix = matrix or any(rank >= 2 for rank, _ in kinds)
        vector = vector or any(rank == 1 and fractions for rank, fractions in kinds)
        entries += bool(kinds)
        dotted = dotted or (bool(kinds) and isinstance(key, str) and "." in key)
        if dotted and matrix and vector:
            break
    if not entries:
        return None
    return _Candidate(place, matrix, vector, dotted or 2 * entries >= len(place.value))


def _of_trainer(place: _Place) -> bool:
    """Whether a dict lies among what a trainer keeps for itself: callbacks, optimizers."""
    found: _Place | None = place
    while found is not None:
        if _TRAINER.search(found.name):
            return True
        found = found.parent
    return False


def _outer(candidates: list[_Candidate]) -> set[int]:
    """The ids of the containers that candidates lie in."""
    found: set[int] = set()
    for candidate in candidates:
        place = candidate.place.parent
        while place is not None and id(place.value) not in found:
            found.add(id(place.value))
            place = place.parent
    return found


def _chosen(candidates: list[_Candidate]) -> list[_Candidate]:
    """State dicts; where nothing is surely one, whatever holds tensors.

    Beside whole state dicts, tensors without a matrix among them are counters, means and states,
    and what a trainer keeps for itself is none of the model's.
    """
    some = [c for c in candidates if c.strong] or candidates
    some = [c for c in some if not _of_trainer(c.place)] or some
    outer = _outer(some)
    return [c for c in some if c.matrix or id(c.place.value) not in outer]


def _left(candidates: list[_Candidate], chosen: _Candidate, opaque: list[_Place]) -> list[str]:
    """Notes on what holds tensors and is no part of the state dict."""
    rest = [c.place for c in candidates if c is not chosen and (c.matrix or c.vector)]
    notes = [f"{place.path()!r} has tensors too, and was left alone" for place in rest]
    notes += [
        f"{place.path()!r} is {describe(place.value)} with data in it: not opened"
        for place in opaque
    ]
    more = len(notes) - _SHOWN_NOTES
    return notes[:_SHOWN_NOTES] + ([f"and {more} more like these"] if more > 0 else [])


def _refuse_opaque(place: _Place, origin: str) -> CheckpointError:
    path = place.path()
    what = "it" if path == ROOT else repr(path)
    return CheckpointError(
        f"{origin}: byte {place.value.offset}: {what} is {describe(place.value)}, which is never "
        "opened; only data is read: save the model's state_dict() instead of the model"
    )


def _listing(choices: tuple[str, ...], form: Callable[[str], str] = repr) -> str:
    return listed(map(form, choices), _MAX_LISTED)


def _at(tree: Any, key: str) -> Any:
    """The container at a dotted path, whose names may have dots themselves; None without one."""
    seen: set[tuple[int, int]] = set()
    waiting = [(tree, 0)]
    while waiting:
        value, at = waiting.pop()
        if at > len(key):
            return value
        if (id(value), at) in seen or not is_container(value):
            continue
        seen.add((id(value), at))
        ends = [i for i in range(at, len(key)) if key[i] == "."] + [len(key)]
        for end in reversed(ends):
            child = _child(value, key[at:end])
            if is_container(child):
                waiting.append((child, end + 1))
    return None


def _child(value: Any, name: str) -> Any:
    number = int(name) if name.isdecimal() and len(name) < 10 else None
    if isinstance(value, Mapping):
        return value.get(name, value.get(number) if number is not None else None)
    return value[number] if number is not None and number < len(value) else None


def _picked(tree: Any, key: str, choices: tuple[str, ...], origin: str) -> Found:
    value = tree if key == ROOT else _at(tree, key)
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, Mapping) and Holdings().holds(value):
        return Found(key, value)
    listed = f"it has {_listing(choices) or 'no state dict at all'}"
    if choices == (ROOT,):
        listed = f"it is one itself: leave out {option('key')}"
    raise AmbiguousCheckpointError(f"{origin}: no state dict at {key!r}; {listed}", choices)


def _survey(tree: Any, deep: bool) -> tuple[list[_Candidate], list[_Place]]:
    """Dicts with tensors of their own, and opaque objects with data. `deep`: see `_inner`."""
    seen: set[int] = set()
    candidates, opaque = [], []
    for place in _places(tree, deep):
        if isinstance(place.value, _core.Foreign):
            opaque += [place] if place.value.holds_data and not place.value.is_tensor else []
        elif (candidate := _candidate(place, seen)) is not None:
            candidates.append(candidate)
    return candidates, opaque


def find_state_dict(tree: Any, key: str | None, origin: str) -> Found:
    """The state dict in a saved object; `key` is the dotted path of one.

    Raises AmbiguousCheckpointError when there is none, or several and `key` picks none, and
    CheckpointError when the weights are within an object that is not opened.
    """
    if isinstance(tree, (list, tuple)) and any(is_weight(v) and not _closed(v) for v in tree):
        tree = dict(enumerate(tree))
    candidates, opaque = _survey(tree, deep=False)
    if not candidates:
        candidates, opaque = _survey(tree, deep=True)
    chosen = _chosen(candidates)
    paths = [c.place.path() for c in chosen]
    choices = tuple(path for path in paths if len(path) <= _MAX_PATH)
    if key is not None:
        return _picked(tree, key, choices, origin)
    if len(chosen) == 1:
        notes = _left(candidates, chosen[0], opaque)
        return Found(paths[0], chosen[0].place.value, tuple(notes))
    if chosen:
        listed = _listing(choices, lambda choice: given("key", choice))
        raise AmbiguousCheckpointError(
            f"{origin}: holds several state dicts; pass one of {listed}", choices
        )
    if opaque:
        raise _refuse_opaque(opaque[0], origin)
    what = "a dict" if isinstance(tree, Mapping) else f"a {type(tree).__name__}"
    if is_weight(tree):
        raise AmbiguousCheckpointError(
            f"{origin}: holds no state dict, but a single tensor: save it in a dict, under a name"
        )
    if is_container(tree) and Holdings().holds(tree):
        what += " whose tensors have keys that are neither text nor numbers: save it under names"
    else:
        what += " without tensors"
    raise AmbiguousCheckpointError(f"{origin}: holds no state dict, but {what}")
