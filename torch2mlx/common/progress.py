"""A progress bar for `progress=True`: tqdm's, which notebooks draw too, or rich's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch2mlx.common.optional import installed, need

#: Called with (bytes done, bytes in all, what is being written).
Progress = Callable[[int, int, str], None]


def reported(progress: Any, verb: str) -> Any:
    """What to report (bytes done, bytes in all, tensor) to: a bar for True, nothing for False.

    Anything else is given back. Raises MissingLibraryError where there is no library for a bar.
    """
    if progress is False:
        return None
    return _bar(verb) if progress is True else progress


def _bar(verb: str) -> Progress:
    """A bar for each round of work: drawn when it begins, done when all bytes are."""
    tqdm = installed("tqdm")
    if not tqdm:
        need("progress=True", "rich")
    drawn = _by_tqdm if tqdm else _by_rich
    bar: tuple[Callable[[int, int], None], Callable[[], None]] | None = None

    def show(done: int, total: int, what: str) -> None:
        nonlocal bar
        bar = bar or drawn(verb, total)
        move, end = bar
        move(done, total)
        if done >= total:
            end()
            bar = None

    return show


def _by_tqdm(verb: str, total: int) -> Any:
    from tqdm.auto import tqdm

    bar: Any = tqdm(total=total, desc=verb, unit="B", unit_scale=True)

    def move(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return move, bar.close


def _by_rich(verb: str, total: int) -> Any:
    from rich.progress import Progress as Bar

    bar = Bar()
    task = bar.add_task(verb, total=total)
    bar.start()

    def move(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return move, bar.stop
