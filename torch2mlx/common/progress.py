"""A progress bar for `progress=True`: tqdm's, which notebooks draw too, or rich's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch2mlx.common.optional import installed, need

Progress = Callable[[int, int, str], None]


def reported(progress: Any, verb: str) -> Any:
    """What to report (bytes done, bytes in all, tensor) to: a bar for True, nothing for False.

    Anything else is given back. Raises MissingLibraryError where there is no library for a bar.
    """
    if progress is False:
        return None
    return _bar(verb) if progress is True else progress


def _bar(verb: str) -> Progress:
    if installed("tqdm"):
        return _by_tqdm(verb)
    need("progress=True", "rich")
    return _by_rich(verb)


def _by_tqdm(verb: str) -> Progress:
    from tqdm.auto import tqdm

    bar: Any = None

    def show(done: int, total: int, what: str) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=verb, unit="B", unit_scale=True)
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return show


def _by_rich(verb: str) -> Progress:
    from rich.progress import Progress as Bar

    bar: Any = None

    def show(done: int, total: int, what: str) -> None:
        nonlocal bar
        if bar is None:
            bar = Bar()
            bar.add_task(verb, total=total)
            bar.start()
        bar.update(bar.task_ids[0], completed=done, total=total)
        if done >= total:
            bar.stop()
            bar = None

    return show
