"""What becomes of a rank or a dtype that a statement asks for: whether it decides something."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any

from torch2mlx.export.capture.code_positions import called


class Use(IntEnum):
    """What becomes of an answer: nothing of its kind (a length is read, an array is cast), it is a
    number like others, or something is decided by it."""

    NONE = 0
    USED = 1
    DECIDES = 2


#: Functions whose result says what their argument says.
_SAME: tuple[str, ...] = (
    "str",
    "repr",
    "int",
    "bool",
    "tuple",
    "list",
    "max",
    "min",
    "id",
    "hash",
    "type",
    "any",
)
_SAME += ("all", "len")
#: Methods and functions that make or cast arrays, or tell the limits of a dtype.
_MAKING: tuple[str, ...] = (
    "to",
    "type",
    "astype",
    "type_as",
    "view",
    "finfo",
    "iinfo",
    "cast",
    "asarray",
)
_MAKING += ("zeros", "ones", "full", "empty", "tensor", "arange", "linspace", "eye", "rand")
_MAKING += ("randn", "zeros_like", "ones_like", "full_like", "empty_like", "as_tensor", "expand")
_MAKING += ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "reshape", "repeat")
_MAKING += ("normal", "randint", "scalar_tensor", "view_as", "promote_types", "result_type")
#: Those that count.
_COUNTING = ("range", "print", "enumerate", "Size", "prod", "sum", "zip", "reversed")


def use_of(chain: Sequence[ast.AST], kind: str) -> Use:
    """What becomes of the last expression of a chain that starts at a file's statements: a
    "rank", a "shape" or a "dtype"."""
    node, seen = chain[-1], frozenset[str]()
    return _climb(node, list(reversed(chain[:-1])), kind, seen)


def _climb(node: Any, above: list[Any], kind: str, seen: frozenset[str]) -> Use:
    while above:
        parent = above.pop(0)
        if isinstance(parent, ast.stmt):
            return _statement(node, parent, above, kind, seen)
        if kind == "shape":
            kind, found = _shape(node, parent)
        else:
            found = _expression(node, parent, kind)
        if found is not None:
            return found
        if isinstance(parent, ast.NamedExpr):
            named = _names(parent.target, above, kind, seen)
            if named:
                return named
        node = parent
    return Use.USED


def _shape(node: Any, parent: Any) -> tuple[str, Use | None]:
    """A shape one step further: a length of it, or its own length, which is the rank."""
    if isinstance(parent, ast.Call) and parent.func is node:
        return "shape", Use.NONE if parent.args or parent.keywords else None
    if isinstance(parent, ast.Subscript) and parent.value is node:
        return "shape", None if isinstance(parent.slice, ast.Slice) else Use.NONE
    if isinstance(parent, ast.Attribute):
        return "shape", Use.NONE
    if isinstance(parent, ast.Call) and called(parent) == "len":
        return "rank", None
    return "shape", _expression(node, parent, "rank")


def _expression(node: Any, parent: Any, kind: str) -> Use | None:
    """What an expression makes of a rank or a dtype within it; None where it hands it on."""
    if isinstance(parent, (ast.Compare, ast.BoolOp)):
        return Use.DECIDES
    if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
        return Use.DECIDES
    if isinstance(parent, ast.IfExp):
        return Use.DECIDES if parent.test is node else None
    if isinstance(parent, ast.Subscript) and parent.value is not node:
        return Use.DECIDES
    if isinstance(parent, ast.keyword) and parent.arg in ("dtype", "dim", "axis", "dims", "size"):
        return Use.NONE if kind == "dtype" else Use.USED
    if isinstance(parent, ast.Call):
        return _call(node, parent, kind)
    return None


def _call(node: Any, call: ast.Call, kind: str) -> Use | None:
    if call.func is node:
        cast_to = kind == "dtype" and call.args and getattr(node, "attr", "") == "type"
        return Use.NONE if cast_to else None
    name = called(call)
    if name in _SAME:
        return None
    if name in _MAKING or name in _COUNTING:
        return Use.NONE if kind == "dtype" else Use.USED
    return Use.DECIDES


def _statement(node: Any, statement: Any, above: list[Any], kind: str, seen: frozenset[str]) -> Use:
    if isinstance(statement, (ast.Assert, ast.If, ast.While, ast.Match, ast.Return, ast.Raise)):
        return Use.DECIDES
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        if kind == "shape" and any(isinstance(t, (ast.Tuple, ast.List)) for t in targets):
            whole = statement.value is node and not any(
                isinstance(n, ast.Starred) for t in targets for n in ast.walk(t)
            )
            if whole:
                return Use.NONE
        return max((_names(t, above, kind, seen) for t in targets), default=Use.NONE)
    return Use.NONE if kind == "dtype" else Use.USED


def _names(target: Any, above: list[Any], kind: str, seen: frozenset[str]) -> Use:
    """What becomes of the names that something is assigned to; of an attribute it is not known."""
    plain = [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]
    if any(isinstance(n, (ast.Attribute, ast.Subscript)) for n in ast.walk(target)):
        return Use.DECIDES
    function = next((n for n in above if isinstance(n, (ast.FunctionDef, ast.Lambda))), None)
    found = Use.NONE if kind == "dtype" else Use.USED
    for name in set(plain) - seen:
        for chain in _loads(function, name) if function else ():
            found = max(found, _climb(chain[0], list(chain[1:]), kind, seen | {name}))
    return found


@functools.lru_cache(maxsize=1024)
def _loads(function: ast.AST, name: str) -> tuple[tuple[ast.AST, ...], ...]:
    """Where a name is read in a function: each place with what is around it, innermost first."""
    return tuple(_chains(function, (), name))


def _chains(node: ast.AST, around: tuple[ast.AST, ...], name: str) -> Iterator[Any]:
    if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
        yield (node, *around)
    for child in ast.iter_child_nodes(node):
        yield from _chains(child, (node, *around), name)
