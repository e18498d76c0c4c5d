"""The page of a port: what is left, what is asked, both sources side by side with the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch2mlx.common.side_by_side import folded, rows_of
from torch2mlx.report.page import Cell, Head, Item, Line, Verdict, numbers, rendered

PortResult = Any  # porter's
_HEADS = (Head("Line", True), Head("What"), Head("Why"), Head("To check"))
#: Equal lines around what differs that stay open to see.
_AROUND = 3


def port_page(results: Sequence[PortResult], advice: Sequence[str]) -> str:
    """The whole page, a section for each file."""
    items = [item for result in results for item in _items(result, len(results) > 1)]
    left = sum(len(result.unsupported) for result in results)
    asked = sum(len(result.questions) for result in results)
    changed = sum(len(result.changes) for result in results)
    names = [result.path for result in results]
    return rendered(
        "port.html",
        f"{names[0]} in MLX" if len(names) == 1 else f"{len(names)} files in MLX",
        "port",
        _verdict(left, asked),
        (
            ("changes", str(changed)),
            ("left for you", str(left)),
            ("questions", str(asked)),
            ("to check", str(sum(bool(c.check) for r in results for c in r.changes))),
        ),
        items,
        "Every line was ported, and none of the changes needs a check of its own.",
        heads=_HEADS,
        files=[_file(result) for result in results],
        advice=advice if changed else (),
    )


def _verdict(left: int, asked: int) -> Verdict:
    if left:
        return Verdict(f"{numbers(left, 'place')} left for you", "bad")
    if asked:
        return Verdict(numbers(asked, "question"), "warn")
    return Verdict("ported", "good")


def _items(result: PortResult, named: bool) -> Iterator[Item]:
    def place(line: int) -> str:
        at = f"line {line}" if line else "the whole file"
        return f"{result.path}, {at}" if named else at

    yield from (Item(u.reason, "bad", place(u.line)) for u in result.unsupported)
    yield from (Item(str(q), "warn", place(q.line)) for q in result.questions)
    checks: dict[tuple[str, str, str], list[int]] = {}
    for c in result.changes:
        if c.check:
            checks.setdefault((c.what, c.why, c.check), []).append(c.line)
    for (what, why, check), lines in checks.items():
        yield Item(f"To check: {check}", "", _places(place, lines), f"`{what}`: {why}")


def _places(place: Any, lines: list[int]) -> str:
    first, *rest = sorted(set(lines))
    return f"{place(first)} and {len(rest)} more" if rest else str(place(first))


def _file(result: PortResult) -> dict[str, Any]:
    notes: dict[int, list[Any]] = {}
    for change in result.changes:
        notes.setdefault(change.line, []).append(change)
    rows = rows_of(result.original, result.source)
    return {
        "path": result.path,
        "lines": [_line(change) for change in result.changes],
        "parts": list(folded(rows, _AROUND, frozenset(notes))),
        "notes": notes,
        "same": result.original == result.source,
    }


def _line(change: Any) -> Line:
    kind = "check" if change.check else "sure"
    cells = (
        Cell(str(change.line), change.line),
        Cell(change.what, code=True),
        Cell(change.why),
        Cell(change.check),
    )
    return Line(cells, kind)
