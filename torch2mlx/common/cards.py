"""Results as a notebook shows them: a heading, a few facts, tables and source that fold.

Colours are the notebook's own, light or dark; there is no script.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from html import escape

#: Rows of a table that are shown.
MOST = 50
_CELL = "text-align:left;padding:.2em .8em .2em 0;vertical-align:top"
_STYLE = "max-width:70em;font-size:90%"


def card(title: str, facts: Mapping[str, object], *parts: str) -> str:
    """A heading with facts below it, and parts made by the functions here; empty ones go."""
    told = "".join(
        f"<tr><td style='{_CELL}'>{escape(name)}</td><td style='{_CELL}'>{escape(str(value))}</td>"
        f"</tr>"
        for name, value in facts.items()
        if value not in ("", None, (), [])
    )
    body = f"<table>{told}</table>" if told else ""
    return f"<div style='{_STYLE}'><b>{escape(title)}</b>{body}{''.join(parts)}</div>"


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows that fold away under a title; the first of them, and how many more there are."""
    found = list(rows)
    if not found:
        return ""
    head = "".join(f"<th style='{_CELL}'>{escape(name)}</th>" for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td style={_CELL!r}>{escape(str(cell))}</td>' for cell in row)}</tr>"
        for row in found[:MOST]
    )
    more = f"<p>and {len(found) - MOST} more</p>" if len(found) > MOST else ""
    return _folded(f"{title} ({len(found)})", f"<table><tr>{head}</tr>{body}</table>{more}")


def lines(title: str, found: Iterable[object]) -> str:
    """Sentences in a list, open to see."""
    items = "".join(f"<li>{escape(str(line))}</li>" for line in found)
    return f"<p style='margin:.5em 0 0'>{escape(title)}</p><ul>{items}</ul>" if items else ""


def source(title: str, text: str) -> str:
    """A program that folds away."""
    return _folded(title, f"<pre>{escape(text)}</pre>") if text else ""


def side_by_side(title: str, old: str, new: str) -> str:
    """Two programs beside each other, with two lines around what differs."""
    if old == new:
        return ""
    made = difflib.HtmlDiff(wrapcolumn=70).make_table(
        old.splitlines(), new.splitlines(), "torch", "MLX", context=True, numlines=2
    )
    marks = (
        "<style>.diff td{font-family:ui-monospace,monospace;text-align:left}"
        ".diff_add{background:#2f9e6e40}.diff_sub{background:#cf4b4b40}"
        ".diff_chg{background:#d99a2b40}.diff_header{opacity:.6}</style>"
    )
    return _folded(title, marks + made)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"
