"""Functions of torch that are operators of ours while a model is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch2mlx.export.capture.ctc import ctc_as_operator
from torch2mlx.export.capture.evenly import evenly_as_operator
from torch2mlx.export.capture.packing import packed_as_operators
from torch2mlx.export.capture.whole_pools import whole_pools


@contextmanager
def own_operators() -> Iterator[None]:
    """While open, they are."""
    with ExitStack() as stack:
        for one in (packed_as_operators, ctc_as_operator, evenly_as_operator, whole_pools):
            stack.enter_context(one())
        yield
