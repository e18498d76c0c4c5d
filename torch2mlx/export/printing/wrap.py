"""Lines that are too long, broken at their outermost brackets as ruff would."""

from __future__ import annotations

import itertools
import re

WIDTH = 100
_OPEN, _CLOSE = "([{", ")]}"
#: Signs between operands, those that bind least first.
_SIGNS = (
    *(("or",), ("and",), ("<", "<=", ">", ">=", "==", "!="), ("|",), ("^",), ("&",)),
    *(("+", "-"), ("*", "/", "//", "%", "@")),
)


def wrapped(line: str, indent: int) -> list[str]:
    """A statement as one line, or broken into several."""
    pad = " " * indent
    if indent + len(line) <= WIDTH:
        return [pad + line]
    found = _widest(line)
    if found is None:
        return _bracketed(line, indent)
    start, end = found
    head, inner, tail = line[: start + 1], line[start + 1 : end], line[end:]
    if indent + len(head) > WIDTH or indent + len(tail) > WIDTH + 20:
        return _in_brackets(line, indent) or _bracketed(line, indent)
    comprehension = _top_level(inner, " for ")
    if comprehension:
        at = comprehension[0]
        parts = wrapped(inner[:at], indent + 4) + wrapped(inner[at + 1 :], indent + 4)
        return [pad + head, *parts, pad + tail]
    items = split_commas(inner)
    if indent + 4 + len(inner) <= WIDTH and not inner.rstrip().endswith(","):
        return [pad + head, " " * (indent + 4) + inner, pad + tail]
    lines = [pad + head]
    comma = "," if len(items) > 1 or inner.rstrip().endswith(",") else ""  # (x,) is a tuple
    for item in items:
        lines += wrapped(item + comma, indent + 4)
    return [*lines, pad + tail]


def _bracketed(line: str, indent: int) -> list[str]:
    pad = " " * indent
    return [pad + line + ("  # noqa: E501" if indent + len(line) > WIDTH else "")]


def _in_brackets(line: str, indent: int) -> list[str]:
    """`name = a <= b` in brackets of its own, a line for each operand; none where that is no
    help."""
    start = re.match(r"(?:[\w.]+ = |return )", line)
    if start is None or _top_level(line, ", "):
        return []
    head, text = start[0], line[start.end() :]
    for signs in _SIGNS:
        cuts = sorted(cut for sign in signs for cut in _top_level(text, f" {sign} "))
        if cuts:
            parts = [text[a:b].strip() for a, b in itertools.pairwise([0, *cuts, len(text)])]
            lines = [piece for part in parts for piece in wrapped(part, indent + 4)]
            return [" " * indent + f"{head}(", *lines, " " * indent + ")"]
    return []


def _pairs(line: str) -> list[tuple[int, int]]:
    """Positions of outermost brackets, strings skipped."""
    found, stack, quoted = [], [], ""
    for i, c in enumerate(line):
        if quoted:
            quoted = "" if c == quoted and line[i - 1] != "\\" else quoted
        elif c in "\"'":
            quoted = c
        elif c in _OPEN:
            stack.append(i)
        elif c in _CLOSE:
            start = stack.pop()
            if not stack:
                found.append((start, i))
    return found


def _widest(line: str) -> tuple[int, int] | None:
    """The outermost brackets to break at: the last ones that hold something."""
    pairs = [(a, b) for a, b in _pairs(line) if b > a + 1]
    return max(pairs, key=lambda p: (p[1] - p[0], p[0]), default=None)


def split_commas(text: str) -> list[str]:
    """Parts between commas outside of brackets and strings."""
    cuts = _top_level(text, ",")
    parts, start = [], 0
    for cut in [*cuts, len(text)]:
        part = text[start:cut].strip()
        if part:
            parts.append(part)
        start = cut + 1
    return parts


def _top_level(text: str, what: str) -> list[int]:
    found, depth, quoted = [], 0, ""
    for i, c in enumerate(text):
        if quoted:
            quoted = "" if c == quoted and text[i - 1] != "\\" else quoted
        elif c in "\"'":
            quoted = c
        elif c in _OPEN:
            depth += 1
        elif c in _CLOSE:
            depth -= 1
        elif depth == 0 and text.startswith(what, i):
            found.append(i)
    return found
