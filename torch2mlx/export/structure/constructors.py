"""Constructors of stock layers and containers, as text with holes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import groupby
from typing import Any

from torch2mlx.export.ir.render import literal
from torch2mlx.export.structure.classes import REPEATED, Construct

#: Items in a row that are made alike are written one by one where they are fewer.
_FEWEST_ALIKE = 3
_told: ContextVar[bool] = ContextVar("told", default=False)


def identity() -> Construct:
    """A layer that gives back what it gets."""
    return Construct(["nn.Identity()"])


def joined(items: list[Construct]) -> Construct:
    """Items with commas; those in a row that are made alike are counted."""
    made = Construct()
    runs = groupby(items, key=Construct.key)
    for i, group in enumerate(list(run) for _, run in runs):
        made.add(", " if i else "")
        if len(group) >= _FEWEST_ALIKE:
            count = ("count", len(group))
            made.add("*[").extend(group[0]).add(REPEATED, count, ")]")
        else:
            for n, item in enumerate(group):
                made.add(", " if n else "").extend(item)
    return made


def listed(items: list[Construct]) -> Construct:
    """A list; items that are made alike are counted."""
    if len(items) > 1 and len({item.key() for item in items}) == 1:
        return Construct(["["]).extend(items[0]).add(REPEATED, ("count", len(items)), ")]")
    return Construct(["["]).extend(joined(items)).add("]")


def called(name: str, items: list[Construct]) -> Construct:
    """A call with items as its arguments."""
    return Construct([f"{name}("]).extend(joined(items)).add(")")


def dictionary(items: Mapping[str, Construct]) -> Construct:
    """A dict literal."""
    made = Construct(["{"])
    for i, (name, item) in enumerate(items.items()):
        made.add(f"{', ' if i else ''}{literal(name)}: ").extend(item)
    return made.add("}")


def nested(items: Mapping[str, Construct]) -> Construct:
    """Dicts in dicts for dotted names; names that are all numbers are places in a list."""
    found = {name: made for name, made in items.items() if "." not in name}
    below: dict[str, dict[str, Construct]] = {}
    for name, made in items.items():
        first, _, rest = name.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = made
    found |= {name: nested(inner) for name, inner in below.items()}
    if all(name.isdigit() for name in found):
        return listed([found[name] for name in sorted(found, key=int)])
    return dictionary(found)


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


@contextmanager
def numbers_told() -> Iterator[None]:
    """Within it, constructors are given numbers that are their defaults too: at other sizes of a
    model these may be others, and its file is to be the same but for numbers."""
    token = _told.set(True)
    try:
        yield
    finally:
        _told.reset(token)


def is_told(value: Any) -> bool:
    """Whether an argument is printed although it is the default."""
    return _told.get() and isinstance(value, float)


def required(target: Any, name: str) -> bool:
    """Whether a class takes an argument without a default, printed by position."""
    parameter = _parameters(target).get(name)
    return (
        isinstance(target, type) and parameter is not None and parameter.default is parameter.empty
    )


def ordered(target: Any, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Arguments in the constructor's order, each with whether it is other than its default."""
    known = _parameters(target)
    order = [name for name in known if name in arguments]
    order += [name for name in arguments if name not in known]
    for name in order:
        value, parameter = arguments[name], known.get(name)
        default = parameter.default if parameter is not None else inspect.Parameter.empty
        if value is None and (default is None or not isinstance(target, type)):
            if default is None:
                yield name, None, False
        elif isinstance(value, Construct) or not _equal(value, default):
            yield name, value, True
        else:
            yield name, value, is_told(value)


def _equal(value: Any, default: Any) -> bool:
    if isinstance(value, (tuple, list)) and isinstance(default, int):
        return all(v == default and type(v) is type(default) for v in value) and len(value) > 0
    return type(value) is type(default) and bool(value == default)
