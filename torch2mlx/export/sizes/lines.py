"""Emitted source as statements: text and the numbers in it."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
_SKIPPED = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


@dataclass(frozen=True)
class Number:
    """A number of a statement; `quoted`: within a string."""

    text: str
    quoted: bool = False


@dataclass(frozen=True)
class Statement:
    """A statement on one line: `parts` are texts and numbers in turn, a text first and last.

    `blank`: empty lines before it. `raw`: as it stands in the file. `place`: the class and the
    method it is in, "" where it is in none.
    """

    indent: int
    blank: int
    raw: str
    texts: tuple[str, ...]
    numbers: tuple[Number, ...]
    place: tuple[str, str] = ("", "")

    def written(self, values: dict[int, str]) -> str:
        """The text of the statement, with others in the place of some numbers."""
        out = [self.texts[0]]
        for i, number in enumerate(self.numbers):
            out += [values.get(i, number.text), self.texts[i + 1]]
        return "".join(out)

    @property
    def shape(self) -> tuple[int, tuple[str, ...], tuple[str, str]]:
        """All but the numbers."""
        return self.indent, self.texts, self.place


def statements(source: str) -> list[Statement]:
    """The statements of a file, in order."""
    rows = source.splitlines()
    found: list[Statement] = []
    group: list[tokenize.TokenInfo] = []
    last, place = 0, ("", "")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            start, end = group[0].start[0], token.start[0]
            indent, first = group[0].start[1], "".join(t.string for t in group[:1])
            if indent == 0 or (indent == 4 and first == "def"):
                place = _place(group, indent, place)
            raw = "\n".join(rows[start - 1 : end])
            texts, numbers = _parts(group)
            found.append(Statement(indent, start - last - 1, raw, texts, numbers, place))
            group, last = [], end
        elif token.type not in _SKIPPED:
            group.append(token)
    return found


def _place(group: list[tokenize.TokenInfo], indent: int, place: tuple[str, str]) -> tuple[str, str]:
    first, name = group[0].string, group[1].string if len(group) > 1 else ""
    if indent:
        return place[0], name
    return (name, "") if first == "class" else ("", name if first == "def" else "")


def _parts(group: list[tokenize.TokenInfo]) -> tuple[tuple[str, ...], tuple[Number, ...]]:
    texts, numbers = [""], []
    for token, before in zip(group, _gaps(group), strict=True):
        texts[-1] += before
        for text, number in _pieces(token):
            if number is None:
                texts[-1] += text
            else:
                numbers.append(number)
                texts.append("")
    return tuple(text.replace("\1,", "").replace("\1", "") for text in texts), tuple(numbers)


def _pieces(token: tokenize.TokenInfo) -> Iterator[tuple[str, Number | None]]:
    if token.type == tokenize.NUMBER:
        yield "", Number(token.string)
        return
    if token.type != tokenize.STRING:
        yield token.string, None
        return
    at = 0
    for match in NUMBER.finditer(token.string):
        yield token.string[at : match.start()], None
        yield "", Number(match.group(), True)
        at = match.end()
    yield token.string[at:], None


def _gaps(group: list[tokenize.TokenInfo]) -> list[str]:
    """What stands before each token where the statement is one line; \\1 before a comma that only
    broken lines have."""
    gaps, last = [""], group[0]
    for i, token in enumerate(group[1:], 1):
        gap = " " * (token.start[1] - last.end[1]) if token.start[0] == last.end[0] else " "
        if token.start[0] != last.end[0] and (last.string in "([{" or token.string in ")]}"):
            gap = ""
        ahead = group[i + 1] if i + 1 < len(group) else token
        if token.string == "," and ahead.string in ")]}" and ahead.start[0] != token.end[0]:
            gap = "\1"
        gaps.append(gap)
        last = token
    return gaps
