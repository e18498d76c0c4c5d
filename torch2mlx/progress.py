"""A progress bar on a terminal; nothing in a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch2mlx.types import Progress

_REDRAW_SECONDS = 0.1


@contextmanager
def progress_bar(verb: str, wanted: bool = True) -> Iterator[Progress | None]:
    """A function to report (bytes done, bytes in all, tensor) to, or None off a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
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
        sys.stderr.write(f"\r\x1b[K{line[:width]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
