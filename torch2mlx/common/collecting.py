"""The garbage collector, held back where many objects are made and none can be garbage yet."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

#: Young objects that are worth the trick below.
_MANY = 50_000
#: How often in a row it is played before the collector gets its turn.
_TIMES = 8


@contextmanager
def paused() -> Iterator[None]:
    """No collections meanwhile: each would walk all that was made so far.

    Where much was made it counts as old afterwards, so that the next collection of young objects
    does not walk it either. Of use as a decorator as well.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            _ages()
            gc.enable()


def paused_for(tensors: int) -> AbstractContextManager[None]:
    """No collections during the work on so many tensors, where that is enough of them to matter.

    For a whole conversion: one of few tensors may take minutes and leaves the collector alone.
    """
    return paused() if tensors >= _MANY else nullcontext()


class _Ages:
    """Lets many young objects count as old, in no time.

    Not where the program keeps frozen objects of its own, and only a few times without a full
    collection between them: it resets what the collector counts towards its next one.
    """

    def __init__(self) -> None:
        self._times, self._collections = 0, -1

    def __call__(self) -> None:
        if gc.get_count()[0] < _MANY or gc.get_freeze_count():
            return
        collections = gc.get_stats()[-1]["collections"]
        self._times = self._times + 1 if collections == self._collections else 1
        self._collections = collections
        if self._times <= _TIMES:
            gc.freeze()
            gc.unfreeze()


_ages = _Ages()
