"""Runs of the same statements over a list of modules, rolled back into `for layer in
self.layers:`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

#: `self.blocks[3]` -> the list and the place in it.
_ITEM = re.compile(r"(self(?:\.\w+|\[\"[^\"]*\"\]|\[\d+\])*?)\[(\d+)\](?=[.(\[])")
_WORD = re.compile(r"(?<![\w.\"])[A-Za-z_]\w*(?!\w*\")")
_FEWEST = 2


def rolled(lines: Sequence[str], lengths: dict[str, int]) -> list[str]:
    """Statements with loops: `lengths` has the number of items of each list.

    A loop goes over a whole list from its start; each turn is the same text but for the item, so it
    means the same: every turn reads the names as the one before left them.
    """
    out = list(lines)
    for name in sorted({m[1] for line in lines for m in _ITEM.finditer(line)}):
        found = _roll(out, name, lengths.get(name, 0))
        while found is not None:
            out = found
            found = _roll(out, name, lengths.get(name, 0))
    return out


def _first(line: str, name: str) -> int | None:
    for match in _ITEM.finditer(line):
        if match[1] == name:
            return int(match[2])
    return None


def _roll(lines: list[str], name: str, length: int) -> list[str] | None:
    starts = [i for i, line in enumerate(lines) if _first(line, name) is not None]
    places = [_first(lines[i], name) for i in starts]
    if length < _FEWEST or places[:1] != [0] or len(set(places)) != length:
        return None
    period = _period(lines, starts, places, length)
    if period is None:
        return None
    begin, size = period
    end = begin + size * length
    turn = lines[begin : begin + size]
    item = _item_name(name, lines)
    for i in range(1, length):
        if not _same(turn, lines[begin + i * size : begin + (i + 1) * size], name, i):
            return None
    body = [line.replace(f"{name}[0]", item) for line in turn]
    return [*lines[:begin], f"for {item} in {name}:", *(f"    {b}" for b in body), *lines[end:]]


def _period(
    lines: list[str], starts: list[int], places: Sequence[int | None], length: int
) -> tuple[int, int] | None:
    """(first statement, statements a turn) when the items come in equal steps."""
    firsts = [starts[places.index(i)] for i in range(length) if i in places]
    steps = {b - a for a, b in pairwise(firsts)}
    if len(steps) != 1:
        return None
    size = steps.pop()
    begin = firsts[0]
    for shift in range(size):
        at = begin - shift
        if at < 0 or at + size * length > len(lines):
            continue
        turn = lines[at : at + size]
        if all(
            _same(turn, lines[at + i * size : at + (i + 1) * size], name_of(lines[begin]), i)
            for i in range(length)
        ):
            return at, size
    return None


def name_of(line: str) -> str:
    """The list that a statement's item belongs to."""
    match = _ITEM.search(line)
    return match[1] if match else ""


def _same(turn: list[str], other: list[str], name: str, i: int) -> bool:
    return [line.replace(f"{name}[0]", f"{name}[{i}]") for line in turn] == other


def _item_name(name: str, lines: list[str]) -> str:
    """`layer` for `self.layers`."""
    last = re.split(r"\W+", name.rstrip(']"'))[-1]
    wanted = last[:-1] if last.endswith("s") and len(last) > 2 else "item"
    words = {word for line in lines for word in _WORD.findall(line)}
    while wanted in words:
        wanted += "_"
    return wanted
