"""Functions of torch that are operators of ours, or take other arguments, while a model is
traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch2mlx.export.capture.ctc import ctc_as_operator
from torch2mlx.export.capture.evenly import evenly_as_operator
from torch2mlx.export.capture.explicit_masks import explicit_masks
from torch2mlx.export.capture.packing import packed_as_operators
from torch2mlx.export.capture.whole_pools import whole_pools

_CONTEXTS = (
    explicit_masks,
    packed_as_operators,
    ctc_as_operator,
    evenly_as_operator,
    whole_pools,
)


@contextmanager
def own_operators() -> Iterator[None]:
    """While open, they are."""
    with ExitStack() as stack:
        for one in _CONTEXTS:
            stack.enter_context(one())
        yield
