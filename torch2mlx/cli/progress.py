"""A progress bar on a terminal, drawn by rich where that is installed; nothing in a pipe."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from torch2mlx.common.optional import installed

if TYPE_CHECKING:
    from torch2mlx.types import Progress

_REDRAW_SECONDS = 0.1
_WIPE = "\r\x1b[K"


def progress_bar(verb: str, wanted: bool = True) -> AbstractContextManager[Progress | None]:
    """A function to report (bytes done, bytes in all, tensor) to, or None off a terminal.

    The bar goes away with the context.
    """
    if not wanted or not sys.stderr.isatty():
        return nullcontext()
    wipe()
    return _drawn_by_rich(verb) if installed("rich") else _drawn(verb)


def step(args: argparse.Namespace, what: str) -> None:
    """What begins now, on standard error: lines that stay with -v; on a terminal one line, which
    the next step, the answer or an error replaces."""
    if args.verbose:
        print(f"torch2mlx: {what}", file=sys.stderr)
    elif sys.stderr.isatty() and not args.quiet:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"{_WIPE}{f'torch2mlx: {what} ...'[:width]}")
        sys.stderr.flush()


def wipe() -> None:
    """Takes a step's line off the terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(_WIPE)
        sys.stderr.flush()


@contextmanager
def _drawn_by_rich(verb: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TransferSpeedColumn as Speed

    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        TaskProgressColumn(),
        Speed(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None, what="")

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, what=what)

        yield show


@contextmanager
def _drawn(verb: str) -> Iterator[Progress]:
    began = drawn = time.monotonic()

    def show(done: int, total: int, what: str) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < _REDRAW_SECONDS and done < total:
            return
        drawn = now
        rate = done / max(now - began, 1e-9) / 1e6
        share = done / max(total, 1)
        filled = int(24 * share)
        line = f"{verb} {'█' * filled}{'·' * (24 - filled)} {share:4.0%} {rate:6.0f} MB/s  {what}"
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"{_WIPE}{line[:width]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        wipe()
