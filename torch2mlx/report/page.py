"""The one design of pages: a skeleton, what fills it, and the stylesheet and script within.

A page is one file, and loads nothing: its policy forbids the network, and lets no script run but
the one here. Whatever comes from a model, a source or an error is escaped by the templates.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from torch2mlx.common import cards
from torch2mlx.common.optional import need

#: How good or bad something is, as the stylesheet names it.
Kind = Literal["", "good", "warn", "bad"]
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Verdict:
    """What a page says first: a few words, and how good they are."""

    text: str
    kind: Kind


@dataclass(frozen=True)
class Item:
    """Something that may differ or has to be done: where it is, what it is, what to do."""

    text: str
    kind: Kind = ""
    where: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Head:
    """The head of a column."""

    text: str
    number: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table. `value` is what its column is sorted by, where that is not the text."""

    text: str
    value: float | None = None
    kind: Kind = ""
    code: bool = False
    link: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table; `kind` is what its section's boxes show and hide."""

    cells: Sequence[Cell]
    kind: str = ""


def rendered(
    template: str,
    title: str,
    verb: str,
    verdict: Verdict,
    figures: Sequence[tuple[str, str]],
    items: Sequence[Item],
    calm: str,
    **more: Any,
) -> str:
    """A whole page. `calm` is what stands in the place of `items` where there are none.

    Raises MissingLibraryError where jinja2 is not installed.
    """
    import torch2mlx

    need("a page", "jinja2")
    grave = {"bad": 0, "warn": 1}
    made = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            verb=verb,
            verdict=verdict,
            figures=figures,
            items=sorted(items, key=lambda item: grave.get(item.kind, 2)),
            calm=calm,
            version=torch2mlx.__version__,
            **more,
        )
    )
    return str(made).encode("utf-8", "backslashreplace").decode() + "\n"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(name=_name, prose=_prose)
    made.globals.update(
        style=Markup(cards.style()),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'",
    )
    return made


def _name(text: object) -> Any:
    """A name that a line may break after dots and underscores, nowhere else."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([._/])(?=\w)", r"\1<wbr>", str(escape(str(text)))))


def _prose(text: object) -> Any:
    """A sentence in which names stand between backticks."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(str(text)))))


def shown_size(nbytes: int) -> str:
    """A size for people: megabytes, gigabytes from a thousand of them on."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 10**9 else f"{nbytes / 1e6:.1f} MB"


def numbers(count: int, what: str) -> str:
    """A number of things; "no" of them where it is zero."""
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


#: Statuses of modules, as the key of a tree or a map tells them.
MEANINGS: Mapping[str, str] = {
    "mapped": "MLX has it",
    "kit": "torch2mlx.kit has it",
    "own": "the model's own class",
    "custom": "a forward to be ported",
    "refused": "no counterpart",
}
