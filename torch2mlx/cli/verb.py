"""What a verb of the command line is, and what it answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.errors import Torch2MLXError

FORCE = "replace what is in the way, even if torch2mlx did not write it; the source never"


@dataclass(frozen=True)
class Answer:
    """The result of a verb.

    `data`: for programs, ready for JSON. `text`: for people. `forms`: other formats, made when
    they are asked for. `failure`: why the exit code is 1 although there is a result.
    """

    data: Any = None
    text: str = ""
    forms: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    failure: Torch2MLXError | None = None


@dataclass(frozen=True)
class Verb:
    """A verb: what it is called, which arguments it takes, and what runs.

    `formats`: what --format may be. `writes`: whether it takes --force and --dry-run. `bar`:
    whether it shows a progress bar. `alone`: whether it runs where the package is not built.
    """

    name: str
    summary: str
    describe: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Answer]
    examples: tuple[str, ...]
    formats: tuple[str, ...] = ("text", "json")
    writes: bool = False
    bar: bool = False
    alone: bool = False


def listed(data: Mapping[str, Any]) -> str:
    """A line for each entry of a small result."""
    return "\n".join(f"{name}: {value}" for name, value in data.items())


def planned(files: list[str], more: Mapping[str, Any] | None = None) -> Answer:
    """The answer of --dry-run: what would be written, and what else was found out."""
    lines = [f"would write {file}" for file in files] or ["would write nothing"]
    rest = listed(more or {})
    text = "\n".join([*lines, *([rest] if rest else []), "nothing was written"])
    return Answer({"would_write": files, **(more or {})}, text)
