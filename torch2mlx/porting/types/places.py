"""Names set and read at places of a function, and which place comes before which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import loads
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import DIFFERENTIATED
from torch2mlx.porting.scopes.traversal import calls, walk


@dataclass(frozen=True)
class Origin:
    """Where a name's value comes from: `kind` is "fresh", "given" by the caller, "shared" (it may
    have other names, `base` is one), "view" or "cast" of `base`, or "passed" by a module that was
    given the names in `base`."""

    kind: str
    base: str = ""


FRESH, SHARED = Origin("fresh"), Origin("shared")
READING = ("view", "cast")


@dataclass(frozen=True)
class Event:
    """A name read, set or kept at a place of a function; `path` names the blocks around it."""

    kind: str
    name: str
    at: int
    path: tuple[tuple[cst.CSTNode, int], ...]
    loops: tuple[cst.CSTNode, ...]
    origin: Origin = FRESH
    statement: int = 0  # where its statement has read its names, and done nothing yet
    block: cst.CSTNode | None = None  # of a name that each branch of an `if` sets: the `if`


def parameters(params: Any) -> Iterator[str]:
    for parameter in (*params.posonly_params, *params.params, *params.kwonly_params):
        yield parameter.name.value
    for star in (params.star_arg, params.star_kwarg):
        if isinstance(star, cst.Param):
            yield star.name.value


def bodies(node: Any) -> Iterator[Any]:
    """The blocks of a compound statement, those of `else` and `except` too."""
    body = getattr(node, "body", None)
    if body is not None and hasattr(body, "body"):
        yield body.body
    for handler in getattr(node, "handlers", ()):
        yield handler.body.body
    for case in getattr(node, "cases", ()):
        yield case.body.body
    other = getattr(node, "orelse", None)
    if isinstance(other, cst.If):
        yield [other]
    elif other is not None:
        yield other.body.body
    final = getattr(node, "finalbody", None)
    if final is not None:
        yield final.body.body


def surely(event: Event, at: Event) -> bool:
    """Whether every way to a place leads through an event before it."""
    return at.path[: len(event.path)] == event.path


def meets(one: Event, other: Event) -> bool:
    """Whether no two branches that exclude each other hold the places."""
    blocks = dict(one.path)
    return all(blocks.get(node, i) == i for node, i in other.path)


def called_at_once(function: Any) -> dict[str, frozenset[str]]:
    """What the functions of training steps read that are written in a function: they run where
    they are differentiated, and at no other time."""
    body = function.body if isinstance(function, cst.Module) else function.body.body
    made = {n.name.value: n for part in body for n in walk(part) if isinstance(n, cst.FunctionDef)}
    found = {}
    for call in (c for part in body for c in calls(part)) if made else ():
        if dotted(call.func) in DIFFERENTIATED and len(call.args) == 2:
            name = dotted(call.args[1].value)
            if name in made:
                found[name] = frozenset(n for n in loads(made[name]) if "." not in n)
    return found


def written(target: Any) -> Iterator[Any]:
    """What an assignment to a target, a tuple of targets maybe, writes to."""
    if isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            yield from written(element.value)
    else:
        yield target


def count_of(statement: Any, name: str) -> int:
    """How often a statement has a name."""
    return sum(isinstance(n, cst.Name) and n.value == name for n in walk(statement))
