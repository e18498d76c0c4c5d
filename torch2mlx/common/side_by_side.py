"""Two programs line by line beside each other, with what differs inside a line marked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

#: Pieces of a line, and whether the other side has them otherwise.
Pieces = tuple[tuple[str, bool], ...]

#: Lines on both sides of a difference up to which the likest lines are put beside each other.
_MATCHED = 60
#: How like two lines have to be, of 1, to stand beside each other.
_LIKE = 0.4
#: What two empty lines beside each other are worth, where lines that are alike are worth 1.
_EMPTY = 0.05
_WORDS = re.compile(r"\w+|\s+|.", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """A line of either side or of both; numbers count from 1, and 0 says that there is none."""

    kind: Literal["equal", "changed", "removed", "added"]
    old_number: int
    old: Pieces
    new_number: int
    new: Pieces


def rows_of(old: str, new: str) -> list[Row]:
    """All lines of both programs, in order."""
    a, b = old.splitlines(), new.splitlines()
    found: list[Row] = []
    for equal, i, i_end, j, j_end in _blocks(a, b):
        if equal:
            found += [_row(a, b, i + k, j + k) for k in range(i_end - i)]
        else:
            found += [_row(a, b, x, y) for x, y in _paired(a, b, (i, i_end), (j, j_end))]
    return found


def _blocks(a: Sequence[str], b: Sequence[str]) -> list[tuple[bool, int, int, int, int]]:
    """Runs of lines that both sides have, and what is between them. Empty lines hold nothing
    together: those between two differences are part of one."""
    found: list[tuple[bool, int, int, int, int]] = []
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, a, b, False).get_opcodes():
        inside = bool(found) and (i_end, j_end) != (len(a), len(b))
        equal = tag == "equal" and not (inside and not any(map(str.strip, a[i:i_end])))
        if not equal and found and not found[-1][0]:
            found[-1] = (False, found[-1][1], i_end, found[-1][3], j_end)
        else:
            found.append((equal, i, i_end, j, j_end))
    return found


def folded(rows: Sequence[Row], around: int, kept: frozenset[int] = frozenset()) -> Iterator[Part]:
    """The rows in parts that are shown and parts that fold away.

    Shown is what differs, with `around` equal lines on both sides, and the lines of the old program
    whose numbers are in `kept`.
    """
    shown: set[int] = set()
    for i, row in enumerate(rows):
        if row.kind != "equal" or row.old_number in kept:
            shown.update(range(i - around, i + around + 1))
    for open_, part in groupby(enumerate(rows), lambda item: item[0] in shown):
        yield Part(open_, tuple(row for _, row in part))


@dataclass(frozen=True)
class Part:
    """Rows that follow one another; `shown` says whether they are open to see."""

    shown: bool
    rows: tuple[Row, ...]


def _row(a: Sequence[str], b: Sequence[str], i: int | None, j: int | None) -> Row:
    if i is None or j is None:
        old: Pieces = () if i is None else ((a[i], False),)
        new: Pieces = () if j is None else ((b[j], False),)
        kind: Literal["removed", "added"] = "added" if i is None else "removed"
        return Row(kind, 0 if i is None else i + 1, old, 0 if j is None else j + 1, new)
    if a[i] == b[j]:
        return Row("equal", i + 1, ((a[i], False),), j + 1, ((b[j], False),))
    return Row("changed", i + 1, *_marked(a[i], b[j], j + 1))


def _marked(old: str, new: str, number: int) -> tuple[Pieces, int, Pieces]:
    """Both lines in pieces, those marked that the other has not, with the new one's number."""
    a, b = _WORDS.findall(old), _WORDS.findall(new)
    left: list[tuple[str, bool]] = []
    right: list[tuple[str, bool]] = []
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, a, b, False).get_opcodes():
        left += [("".join(a[i:i_end]), tag != "equal")] if i_end > i else []
        right += [("".join(b[j:j_end]), tag != "equal")] if j_end > j else []
    return tuple(left), number, tuple(right)


def _paired(
    a: Sequence[str], b: Sequence[str], old: tuple[int, int], new: tuple[int, int]
) -> Iterator[tuple[int | None, int | None]]:
    """Places of lines that stand beside each other where both sides differ, in order: the pairs
    that are likest in all, and lines of one side alone between them."""
    (i, i_end), (j, j_end) = old, new
    for x, y in [*_likest(a, b, old, new), (i_end, j_end)]:
        yield from ((k, None) for k in range(i, x))
        yield from ((None, k) for k in range(j, y))
        if x < i_end and y < j_end:
            yield x, y
        i, j = x + 1, y + 1


def _likest(
    a: Sequence[str], b: Sequence[str], old: tuple[int, int], new: tuple[int, int]
) -> list[tuple[int, int]]:
    """The pairs of lines, in order on both sides, whose likenesses have the largest sum."""
    (i0, i1), (j0, j1) = old, new
    if i1 - i0 > _MATCHED or j1 - j0 > _MATCHED:
        return list(zip(range(i0, i1), range(j0, j1), strict=False))
    likeness = {(i, j): _likeness(a[i], b[j]) for i in range(i0, i1) for j in range(j0, j1)}
    best = {(i, j): 0.0 for i in range(i0, i1 + 1) for j in range(j0, j1 + 1)}
    for i in reversed(range(i0, i1)):
        for j in reversed(range(j0, j1)):
            beside = best[i + 1, j + 1] + likeness[i, j]
            best[i, j] = max(best[i + 1, j], best[i, j + 1], beside)
    found, i, j = [], i0, j0
    while i < i1 and j < j1:
        if likeness[i, j] and best[i, j] == best[i + 1, j + 1] + likeness[i, j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return found


def _likeness(one: str, other: str) -> float:
    """How like two lines are without their indents, 0 where that is little."""
    if not one.strip() or not other.strip():
        return 0.0 if one.strip() or other.strip() else _EMPTY
    found = difflib.SequenceMatcher(None, one.strip(), other.strip(), False)
    near = found.real_quick_ratio() >= _LIKE and found.quick_ratio() >= _LIKE
    ratio = found.ratio() if near else 0.0
    return ratio if ratio >= _LIKE else 0.0
