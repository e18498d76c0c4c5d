"""Results as a notebook shows them: a heading, a few facts, tables and source that fold.

The stylesheet is that of the pages, colours are the notebook's own, light or dark; there is no
script. A place that shows no stylesheets shows plain tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path

from torch2mlx.common.side_by_side import Pieces, folded, rows_of

#: Rows of a table that are shown.
MOST = 50
#: Equal lines around what differs.
_AROUND = 2


@cache
def style() -> str:
    """The one stylesheet, of pages and of cards."""
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def card(title: str, facts: Mapping[str, object], *parts: str) -> str:
    """A heading with facts below it, and parts made by the functions here; empty ones go."""
    told = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value not in ("", None, (), [])
    )
    body = f"<table>{told}</table>" if told else ""
    head = f"<style>{style()}</style><b>{escape(title)}</b>"
    return f"<div class='t2m-card'>{head}{body}{''.join(parts)}</div>"


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows that fold away under a title; the first of them, and how many more there are."""
    found = list(rows)
    if not found:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>"
        for row in found[:MOST]
    )
    more = f"<p>and {len(found) - MOST} more</p>" if len(found) > MOST else ""
    return _folded(f"{title} ({len(found)})", f"<table><tr>{head}</tr>{body}</table>{more}")


def lines(title: str, found: Iterable[object]) -> str:
    """Sentences in a list, open to see."""
    items = "".join(f"<li>{escape(str(line))}</li>" for line in found)
    return f"<p>{escape(title)}</p><ul>{items}</ul>" if items else ""


def source(title: str, text: str) -> str:
    """A program that folds away."""
    return _folded(title, f"<pre>{escape(text)}</pre>") if text else ""


def side_by_side(title: str, old: str, new: str) -> str:
    """Two programs beside each other, with two lines around what differs."""
    if old == new:
        return ""
    body = []
    for part in folded(rows_of(old, new), _AROUND):
        for row in part.rows if part.shown else ():
            off, on = row.kind in ("changed", "removed"), row.kind in ("changed", "added")
            body.append(
                f"<tr><td>{row.old_number or ''}</td>{_side('old', row.old, off)}"
                f"<td>{row.new_number or ''}</td>{_side('new', row.new, on)}</tr>"
            )
        if not part.shown:
            body.append("<tr><td>&#8943;</td></tr>")
    head = "<tr><th></th><th>torch</th><th></th><th>MLX</th></tr>"
    return _folded(title, f"<table class='side'>{head}{''.join(body)}</table>")


def _side(name: str, pieces: Pieces, on: bool) -> str:
    text = escape("".join(text for text, _ in pieces))
    return f"<td class='{name}{' on' if on else ''}'>{text}</td>"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"
