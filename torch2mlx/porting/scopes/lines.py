"""Lines of statements: found in order in the text, much quicker than libcst's positions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.traversal import children

_HEADS = {
    cst.If: ("if ", "if(", "elif ", "elif("),
    cst.For: ("for ", "async for "),
    cst.While: ("while ", "while("),
    cst.With: ("with ", "async with "),
    cst.Try: ("try:", "try "),
    cst.FunctionDef: ("def ", "async def "),
    cst.ClassDef: ("class ",),
}

_WITHIN = re.compile("[;:]")
#: A line that both texts end with, so that their last lines have one to go with.
_END = "\n"


def statements(node: Any) -> Iterator[Any]:
    for child in children(node):
        if isinstance(child, cst.SimpleStatementLine) or type(child) in _HEADS:
            yield child
        if not isinstance(child, (cst.BaseExpression, cst.SimpleStatementLine)):
            yield from statements(child)


def lines_of(
    module: cst.Module,
    text: str,
    heads: dict[cst.CSTNode, tuple[str, ...]] | None = None,
    placed: Mapping[Any, int] = MappingProxyType({}),
) -> dict[cst.CSTNode, int]:
    """Line of every statement, from 1. `heads` keeps how simple statements begin, for calls with
    trees that have most of them in common. `placed`: lines of statements that stand elsewhere."""
    known = {} if heads is None else heads
    found, at = {}, 0
    lines = list(_pieces(text))
    for statement in statements(module):
        if statement in placed:
            found[statement] = placed[statement]
            continue
        kind: Any = type(statement)
        begins = _HEADS.get(kind) or known.get(statement)
        if begins is None:
            first = statement.body[0].with_changes(semicolon=cst.MaybeSentinel.DEFAULT)
            begins = (module.code_for_node(first).strip().partition("\n")[0].strip(),)
            known[statement] = begins
        place = at
        while place < len(lines) and not lines[place][1].startswith(begins):
            place += 1
        if place < len(lines):
            at = place
            found[statement] = lines[place][0]
            at += 1
    return found


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text by their numbers, from 1, and after each what stands on it behind a
    semicolon or a colon: statements that are set apart begin there."""
    for number, line in enumerate(text.splitlines(), 1):
        yield number, line.strip()
        if ";" in line or ":" in line:
            yield from ((number, piece.strip()) for piece in _WITHIN.split(line)[1:])


def line_map(before: str, after: str) -> dict[int, int]:
    """Lines of a text -> the lines of another that they come from."""
    old, new = ([*text.splitlines(), _END] for text in (before, after))
    found: dict[int, int] = {}
    # lines that stand at very many places (blank ones, `return x`) begin no match, which would make
    # the time grow with the square of their number; they go with what they stand beside
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=True)
    for tag, a, b, c, d in matcher.get_opcodes():
        for i in range(c, d):
            found[i + 1] = (a + (i - c) if tag == "equal" else min(a + (i - c), max(b - 1, a))) + 1
    del found[len(new)]
    return found
