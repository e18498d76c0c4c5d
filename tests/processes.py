"""Work in processes of its own, some side by side: what hangs or crashes ends alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How the process of a task ended: `late`, killed after its time, or with an exit code."""

    late: bool
    code: int | None


def side_by_side(
    tasks: Sequence[Any], work: Callable[[Any, Any], None], seconds: float, beside: int = 2
) -> Iterator[tuple[Any, Any]]:
    """Pairs of a task and what `work(task, out)` sends with `out.send`, in the order they come;
    the last of each task is an `Ended`.

    Processes are forked, so that what the caller has imported is there; each may take `seconds`.
    The caller must not have run MLX: its threads are not there after a fork, and work would wait
    for them for ever.
    """
    context, waiting = multiprocessing.get_context("fork"), list(reversed(tasks))
    running: list[tuple[Any, Any, Any, float]] = []
    try:
        while waiting or running:
            while waiting and len(running) < beside:
                task = waiting.pop()
                end, start = context.Pipe(duplex=False)
                process = context.Process(target=work, args=(task, start))
                process.start()
                start.close()
                running.append((task, process, end, time.monotonic() + seconds))
            time.sleep(0.005)
            for one in list(running):
                task, process, end, limit = one
                # asked before its messages are read: none comes after
                alive, late = process.is_alive(), time.monotonic() > limit
                yield from ((task, message) for message in _messages(end))
                if late or not alive:
                    running.remove(one)
                    _end(process)
                    yield task, Ended(alive, process.exitcode)
    finally:
        for _, process, _, _ in running:
            _end(process)


def _messages(end: Any) -> Iterator[Any]:
    """What has been sent and not been read."""
    try:
        while end.poll():
            yield end.recv()
    except EOFError:
        return


def _end(process: Any) -> None:
    process.kill()
    process.join()
