"""MLX's sums over axes of length 0, on its CPU: of an array whose axes lie in another order in
memory they do not return, or answer what lies there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: MLX's reductions that take an axis of length 0.
_REDUCTIONS = ("sum", "mean", "prod", "any", "all", "var", "std")


@contextmanager
def sums_that_end() -> Iterator[None]:
    """While open, such a reduction raises ValueError instead."""
    import mlx.core as mx

    core: Any = mx
    originals = {name: getattr(core, name) for name in _REDUCTIONS}
    for name, original in originals.items():
        setattr(core, name, _checked(name, original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(core, name, original)


def _checked(name: str, original: Any) -> Any:
    def reduce(x: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(x, *args, **kwargs)
        if getattr(x, "size", 1) == 0 and made.size and not _in_order(x):
            raise ValueError(
                f"mx.{name} over an axis of length 0 of an array of shape {x.shape} that was "
                "transposed: MLX does not return from it on its CPU, or answers at random"
            )
        return made

    return reduce


def _in_order(x: Any) -> bool:
    """Whether the axes of an array lie in memory in their order."""
    import mlx.core as mx

    words = {2: mx.uint16, 4: mx.uint32, 8: mx.uint64}  # no buffer has bfloat16
    mx.eval(x)
    held: Any = mx.view(x, words[x.itemsize]) if x.itemsize in words else x
    strides = memoryview(held).strides
    wanted = [x.itemsize * math.prod(x.shape[i + 1 :]) for i in range(x.ndim)]
    return list(strides or ()) == wanted
