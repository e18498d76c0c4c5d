"""Iterators that a forward takes items from: how far they are, and others that are as far."""

from __future__ import annotations

import types
import warnings
from dataclasses import dataclass
from typing import Any

#: Whose iterators say what they would be made of again.
_PLAIN = ("builtins", "itertools", "collections", "_collections")


@dataclass(frozen=True)
class Taken:
    """Stands for an iterator that went on; `again`: whether another can be made where it was."""

    again: bool


def is_iterator(value: Any) -> bool:
    """Whether a value gives items by itself, and keeps how far it is where nobody can look."""
    kind = type(value)
    return hasattr(kind, "__next__") and hasattr(kind, "__iter__")


def sources(iterator: Any) -> list[Any]:
    """What an iterator takes its items from, as far as it says so."""
    parts = _parts(iterator)
    return [] if parts is None else [*parts[1], *_items(parts[2])]


def progress(iterator: Any) -> Any:
    """How far an iterator is: equal until it goes on, where that can be seen at all."""
    frame = getattr(iterator, "gi_frame", None)
    if frame is not None:
        return frame.f_lasti, repr(frame.f_locals)
    parts = _parts(iterator)
    if parts is not None:
        return parts[0].__name__, *map(_known, parts[1]), *map(_known, _items(parts[2]))
    hint = getattr(iterator, "__length_hint__", None)
    held = vars(iterator) if hasattr(iterator, "__dict__") else {}
    numbers = {name: value for name, value in held.items() if isinstance(value, (int, str))}
    return repr(iterator), None if hint is None else hint(), numbers


def again(iterator: Any) -> Any:
    """Another iterator over the same things, as far as this one is; None where Python has none."""
    parts = _parts(iterator)
    if parts is None:
        return None
    make, given, state = parts
    args, held = [_again(value) for value in given], [_again(value) for value in _items(state)]
    if any(value is _NONE for value in (*args, *held)):
        return None
    made = make(*args)
    if state is not None:
        made.__setstate__(tuple(held) if isinstance(state, tuple) else held[0])
    return made


_NONE: Any = object()


def _again(value: Any) -> Any:
    if isinstance(value, list):  # one that the iterator itself adds to
        return list(value)
    if isinstance(value, tuple):
        made = tuple(map(_again, value))
        return _NONE if any(one is _NONE for one in made) else made
    if not is_iterator(value):
        return value
    made = again(value)
    return _NONE if made is None else made


def _parts(iterator: Any) -> tuple[Any, tuple[Any, ...], Any] | None:
    """What makes an iterator anew, with what, and how far it is then."""
    if type(iterator).__module__ not in _PLAIN or isinstance(iterator, types.GeneratorType):
        return None
    try:
        with warnings.catch_warnings():  # iterators of itertools stop saying so in Python 3.14
            warnings.simplefilter("ignore", DeprecationWarning)
            make, args, *state = iterator.__reduce__()
    except TypeError:
        return None
    return make, tuple(args), state[0] if state else None


def _items(state: Any) -> tuple[Any, ...]:
    if state is None:
        return ()
    return state if isinstance(state, tuple) else (state,)


def _known(value: Any) -> Any:
    """Something that is equal as long as a value is the same."""
    if isinstance(value, (int, float, str, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_known, value))
    return progress(value) if is_iterator(value) else id(value)
