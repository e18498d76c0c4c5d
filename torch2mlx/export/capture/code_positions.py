"""Where in its own source a running frame is: the expression that is being evaluated."""

from __future__ import annotations

import ast
import dis
import functools
import linecache
from typing import Any

#: (first line, first column, last line, last column) of an expression; columns -1 are not known.
Span = tuple[int, int, int, int]
#: Instructions that ask for the truth of what is there, besides jumps.
_ASKING = ("UNARY_NOT", "TO_BOOL", "COPY")


def path_to(frame: Any) -> tuple[ast.AST, ...]:
    """The nodes from a file's statements down to the expression that a frame evaluates right now;
    empty where its source cannot be read. Before Python 3.11 down to the statement alone."""
    code = frame.f_code
    tree = file_tree(code.co_filename)
    return () if tree is None else _path(tree, _span(code, frame.f_lasti, frame.f_lineno))


def _span(code: Any, at: int, line: int) -> Span:
    before = [offset for offset in _spans(code) if offset <= at]  # caches follow an instruction
    return _spans(code)[before[-1]] if before else (line, -1, line, -1)


@functools.lru_cache(maxsize=1024)
def _spans(code: Any) -> dict[int, Span]:
    """Where each instruction's expression stands; one that asks for the truth of a value has the
    place of what made the value: compilers give it that of the whole statement."""
    found: dict[int, Span] = {}
    made: Span | None = None
    for one in dis.get_instructions(code):
        known = getattr(one, "positions", None)
        span = known and (known.lineno, known.col_offset, known.end_lineno, known.end_col_offset)
        if span is None or None in span:
            continue
        asks = "JUMP" in one.opname or one.opname in _ASKING
        made = made if asks else span
        found[one.offset] = (made if asks else None) or span
    return found


@functools.lru_cache(maxsize=64)
def file_tree(filename: str) -> ast.Module | None:
    """The statements of a file; None where it cannot be read."""
    lines = linecache.getlines(filename)
    try:
        return ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError):
        return None


@functools.lru_cache(maxsize=4096)
def _path(tree: ast.AST, span: Span) -> tuple[ast.AST, ...]:
    found: list[ast.AST] = []
    waiting = list(ast.iter_child_nodes(tree))
    while waiting:
        node = waiting.pop(0)
        if not hasattr(node, "lineno"):  # arguments, comprehensions, cases of a match
            waiting = [*ast.iter_child_nodes(node), *waiting]
        elif _holds(node, span):
            found.append(node)
            waiting = list(ast.iter_child_nodes(node))
    return tuple(found)


def _holds(node: Any, span: Span) -> bool:
    start, left, end, right = span
    if left < 0:
        return isinstance(node, ast.stmt) and node.lineno <= start <= (node.end_lineno or start)
    first, last = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
    return first <= (start, left) and (end, right) <= last


def statement_of(path: tuple[ast.AST, ...]) -> int:
    """The place of the innermost statement of a path; -1 of an empty one."""
    return max((i for i, node in enumerate(path) if isinstance(node, ast.stmt)), default=-1)


def source_of(node: ast.AST) -> str:
    """An expression as one line of Python."""
    return " ".join(ast.unparse(node).split())


def called(call: ast.Call) -> str:
    """The last name of what a call calls."""
    function: Any = call.func
    return str(getattr(function, "attr", getattr(function, "id", "")))
