"""Lists of a file with an item for each layer, that a list of the settings tells."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch2mlx.export.ir.render import literal
from torch2mlx.export.printing.wrap import split_commas
from torch2mlx.export.sizes.fields import Way
from torch2mlx.export.sizes.lines import Number, Statement, statements

#: What stands for a list of the settings until it is known how a class reads it.
MARK = re.compile(r"__told_by_(\d+)__")
#: What stands for a table while a statement is read.
_STANDS = "__table_"
#: How much each number may be rounded.
_ROUNDED = 3e-7
#: A list, and no places of an array.
_FLAT = re.compile(r"(?<![\w)\]])\[([^\[\]]*)\]")


def with_series(
    file: Sequence[Statement], lists: Sequence[Way], values: Mapping[Way, Any]
) -> list[Statement]:
    """The statements, lists in them written by what kinds of layers there are.

    `lists` are the ways to the lists of kinds, `values` has them as they are for this file.
    """
    return [_told(statement, lists, values) for statement in file]


def with_tables(file: Sequence[Statement]) -> list[Statement]:
    """The statements, each list of numbers that fall by one ratio as one number."""
    return [_tabled(statement) for statement in file]


def _tabled(statement: Statement) -> Statement:
    text = statement.written({})
    tables = [m.group() for m in _FLAT.finditer(text) if _falls(m.group(1))]
    if not tables or any(number.quoted for number in statement.numbers):
        return statement
    for i, table in enumerate(tables):
        text = text.replace(table, f"{_STANDS}{i}__", 1)
    made = _statement(replace(statement, raw=""), text)
    texts, numbers = [made.texts[0]], []
    for text, number in zip(made.texts[1:], made.numbers, strict=True):
        numbers.append(number)
        texts.append(text)
    return _split(replace(made, texts=tuple(texts), numbers=tuple(numbers)), tables)


def _split(statement: Statement, tables: Sequence[str]) -> Statement:
    """A statement with its tables as numbers."""
    texts, numbers = [], []
    for i, text in enumerate(statement.texts):
        *parts, last = re.split(rf"{_STANDS}(\d+)__", text)
        for part, number in zip(parts[::2], parts[1::2], strict=True):
            texts.append(part)
            numbers.append(Number(tables[int(number)]))
        texts.append(last)
        if i < len(statement.numbers):
            numbers.append(statement.numbers[i])
    return replace(statement, texts=tuple(texts), numbers=tuple(numbers))


def _falls(inner: str) -> bool:
    """Whether numbers begin with 1 and fall by one ratio."""
    try:
        numbers = [float(item) for item in split_commas(inner)]
    except ValueError:
        return False
    if numbers[:1] != [1] or "." not in inner or not all(0 < n < 1 for n in numbers[1:2]):
        return False
    ratio = [*numbers, 1.0][1]
    return all(math.isclose(n, ratio**i, rel_tol=i * _ROUNDED) for i, n in enumerate(numbers))


def _told(statement: Statement, lists: Sequence[Way], values: Mapping[Way, Any]) -> Statement:
    text = before = statement.written({})
    for number, way in enumerate(lists):
        by_kind = partial(_by_kind, number=number, kinds=values[way])
        text = _FLAT.sub(by_kind, text)
    if text == before:
        return statement
    return _statement(statement, text)


def _statement(statement: Statement, text: str) -> Statement:
    """A statement with another text."""
    made = statements(text if text[-1] != ":" else f"{text} pass")[0]
    texts = made.texts if text[-1] != ":" else (*made.texts[:-1], made.texts[-1][: -len(" pass")])
    return replace(statement, texts=texts, numbers=made.numbers, raw="")


def _by_kind(match: re.Match[str], number: int, kinds: Sequence[str]) -> str:
    """A list in which the kind of a layer says which item it has."""
    items = split_commas(match.group(1))
    if len(items) != len(kinds) or len(set(items)) < 2:
        return match.group()
    by_kind = {kind: item for kind, item in zip(kinds, items, strict=True)}
    if [by_kind[kind] for kind in kinds] != items:
        return match.group()
    shown = ", ".join(f"{literal(kind)}: {by_kind[kind]}" for kind in sorted(by_kind))
    return f"[{{{shown}}}[kind] for kind in __told_by_{number}__]"
