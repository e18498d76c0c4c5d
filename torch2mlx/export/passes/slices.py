"""Slices in a row become one index: torch.export takes `x[:, :n, ::2]` apart, one axis at a time,
and writes to `x[a:b, c:d]` by way of a part of a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.export.passes.rewrite import Rewriter

_WHOLE = slice(None)
_ASSIGN = "kit.indexing.assign"


def with_slices_joined(program: Program) -> Program:
    """The program with one index for parts of different axes that follow one another, and one
    assignment for what is written to a slice of a slice."""
    return Rewriter(program).run(_rule)


def _rule(r: Rewriter, node: Node) -> Any:
    if node.op == "index":
        x, where = node.args
        if isinstance(x, Node) and x.op == "index" and r.single(x):
            joined = _joined(x.args[1], where, x.args[0].ndim)
            return None if not joined else r.builder.call("index", x.args[0], joined)
    if node.op == _ASSIGN:
        return _assigned(r, node)
    return None


def _assigned(r: Rewriter, node: Node) -> Any:
    """`x[a] = (x[a] with [b] = values)` as `x[a, b] = values`; a number for many of it."""
    x, where, values = node.args
    if isinstance(values, Node) and values.op == _ASSIGN and r.single(values):
        part, inner, written = values.args
        same = isinstance(part, Node) and part.op == "index" and part.args[0] is x
        joined = _joined(where, inner, x.ndim) if same and _alike(part.args[1], where) else None
        if joined:
            return r.builder.call(_ASSIGN, x, joined, _number(written))
    number = _number(values)
    return None if number is values else r.builder.call(_ASSIGN, x, where, number)


def _number(values: Any) -> Any:
    """The one number of an array that is filled with it: it is laid out where it is written."""
    if isinstance(values, Node) and values.op == "mx.broadcast_to":
        filled = values.args[0]
        if isinstance(filled, Node) and filled.is_array and filled.ndim == 0:
            return filled
    return values


def _alike(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: Any, other: Any) -> bool:
    if type(one) is int:
        return type(other) is int and one == other
    if isinstance(one, slice) and isinstance(other, slice):
        pairs = ((one.start, other.start), (one.stop, other.stop), (one.step, other.step))
        return all(a is b or (isinstance(a, int) and a == b) for a, b in pairs)
    return False


def _joined(first: Sequence[Any], second: Sequence[Any], ndim: int) -> tuple[Any, ...] | None:
    """One index of an array with `ndim` axes for two in a row, both of slices and numbers alone,
    where of no axis both take a part."""
    if not all(isinstance(w, slice) or type(w) is int for w in (*first, *second)):
        return None
    made = [*first, *[_WHOLE] * (ndim - len(first))]
    left = [axis for axis, w in enumerate(made) if isinstance(w, slice)]
    for axis, w in zip(left, second, strict=False):
        if _is_whole(made[axis]):
            made[axis] = w
        elif not _is_whole(w):
            return None
    while made and _is_whole(made[-1]):
        made.pop()
    return tuple(made)


def _is_whole(part: Any) -> bool:
    return isinstance(part, slice) and (part.start, part.stop, part.step) == (None, None, None)
