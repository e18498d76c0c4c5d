"""Walking a tree of libcst quickly: its own visitors build every node anew."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, lru_cache
from operator import attrgetter, itemgetter
from typing import Any

import libcst as cst

_SKIPPED: tuple[str, ...] = (
    "whitespace",
    "leading_lines",
    "lines_after",
    "header",
    "footer",
    "comma",
    "semicolon",
)
_SKIPPED += ("lpar", "rpar", "lbracket", "rbracket", "equal", "indent", "dot", "newline")

_EMPTY = cst.Module([])


@cache
def _read(kind: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """Reads the fields that may hold nodes with a meaning, at once; None where there are none."""
    held = (f for f in fields(kind) if f.type is not str)
    names = [f.name for f in held if not f.name.startswith(_SKIPPED)]
    if len(names) == 1:
        (name,) = names
        return lambda node: (getattr(node, name),)
    return attrgetter(*names) if names else None


#: Statements behind which their block does not go on.
EXITS = (cst.Return, cst.Continue, cst.Break, cst.Raise)


@cache
def _is_node(kind: type) -> bool:
    """Remembered by type: libcst's classes are abstract ones, which isinstance asks slowly."""
    return issubclass(kind, cst.CSTNode)


def children(node: Any) -> list[Any]:
    """Nodes right under a node, without punctuation, in the order of the source."""
    found: list[Any] = []
    read = _read(node.__class__)
    if read is None:
        return found
    for value in read(node):
        kind = value.__class__
        if kind is list or kind is tuple:
            found += [item for item in value if _is_node(item.__class__)]
        elif _is_node(kind):
            found.append(value)
    return found


def walk(node: Any) -> Iterator[Any]:
    """A node and all under it."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        found = children(current)
        found.reverse()
        waiting += found


def calls(node: Any) -> Iterator[cst.Call]:
    """All calls under a node."""
    if type(node) is cst.Module:
        return iter(of_kinds(node, cst.Call))
    return (found for found in walk(node) if type(found) is cst.Call)


def is_backward(call: cst.Call) -> bool:
    """`loss.backward()`."""
    return isinstance(call.func, cst.Attribute) and call.func.attr.value == "backward"


def words_of(node: Any) -> set[Any]:
    """The names under a node that stand for no value: of attributes, and keywords of calls."""
    found = {n.attr for n in walk(node) if type(n) is cst.Attribute}
    return found | {n.keyword for n in walk(node) if type(n) is cst.Arg and n.keyword is not None}


def may_leave(node: Any) -> bool:
    """Whether a block may be left before its end, or what stands behind a statement passed over."""
    return any(isinstance(part, EXITS) for part in walk(node))


def blocks(statement: Any) -> Iterator[list[Any]]:
    """Blocks right under a compound statement."""
    while statement is not None:
        body = getattr(statement, "body", None)
        if isinstance(body, cst.IndentedBlock):
            yield list(body.body)
        for handler in getattr(statement, "handlers", ()):
            yield from blocks(handler)
        final = getattr(statement, "finalbody", None)
        if final is not None:
            yield from blocks(final)
        statement = getattr(statement, "orelse", None)


@lru_cache(maxsize=4)
def everything(module: cst.Module) -> tuple[Any, ...]:
    """All nodes of a file, from the outside in: several passes ask for them."""
    return tuple(walk(module))


def of_kinds(module: cst.Module, *kinds: type[cst.CSTNode]) -> list[Any]:
    """All nodes of some kinds, from the outside in: what `everything` has of them, found by type.
    libcst's classes are abstract ones, which isinstance asks slowly about other nodes."""
    known = _by_kind(module)
    if len(kinds) == 1:
        return [node for _, node in known.get(kinds[0], ())]
    found = [pair for kind in kinds for pair in known.get(kind, ())]
    return [node for _, node in sorted(found, key=itemgetter(0))]


@lru_cache(maxsize=4)
def _by_kind(module: cst.Module) -> dict[type, list[tuple[int, Any]]]:
    found: dict[type, list[tuple[int, Any]]] = {}
    for place, node in enumerate(everything(module)):
        found.setdefault(type(node), []).append((place, node))
    return found


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the cyclic collector: it would walk the trees again and again while they grow."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def code(node: Any) -> str:
    """The source of a node."""
    return _EMPTY.code_for_node(node)
