"""The files of one model at several sizes, put side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch2mlx.errors import TranslationError
from torch2mlx.export.sizes.lines import Statement


@dataclass(frozen=True)
class Hole:
    """A number that is another at another size: the statement it is in, its place there, what it
    is at each size."""

    statement: int
    place: int
    values: tuple[str, ...]
    quoted: bool


def holes(files: Sequence[Sequence[Statement]]) -> list[Hole]:
    """The numbers that differ. Raises TranslationError where more than numbers does."""
    found = []
    for i, row in enumerate(alike(files)):
        for j, number in enumerate(row[0].numbers):
            values = tuple(statement.numbers[j].text for statement in row)
            if len(set(values)) > 1:
                found.append(Hole(i, j, values, number.quoted))
    return found


def alike(files: Sequence[Sequence[Statement]]) -> Iterator[tuple[Statement, ...]]:
    """The statements side by side."""
    for row in zip(*files, strict=False):
        if len({statement.shape for statement in row}) > 1:
            raise TranslationError(_told(row))
        yield row
    if len({len(file) for file in files}) > 1:
        raise TranslationError("the program has more statements at one size than at another")


def _told(row: Sequence[Statement]) -> str:
    one = row[0]
    other = next(s for s in row if s.shape != one.shape)
    where = ".".join(part for part in one.place if part)
    return (
        f"the program is another at another size, in {where or 'the file'}: "
        f"`{_short(one)}` and `{_short(other)}`"
    )


def _short(statement: Statement) -> str:
    text = statement.written({})
    return text if len(text) <= 80 else f"{text[:77]}..."
