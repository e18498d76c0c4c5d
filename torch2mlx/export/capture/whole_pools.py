"""Pooling over all of an image while a model is traced: `F.avg_pool2d(x, x.shape[2:])`. torch's
operators take plain numbers for the window, and would fix the lengths; means and maxima do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch2mlx.export.capture.kept_lengths import is_length
from torch2mlx.export.capture.patched import replaced


@contextmanager
def whole_pools() -> Iterator[None]:
    """While open, pooling whose window is as long as the image is a mean or a maximum."""
    from torch.nn import functional

    with ExitStack() as stack:
        for axes in (1, 2, 3):
            for name, made in (("avg_pool", _mean), ("max_pool", _largest)):
                pool = f"{name}{axes}d"
                own = _pooling(getattr(functional, pool), axes, made)
                stack.enter_context(replaced(functional, pool, own))
        yield


def _pooling(original: Any, axes: int, whole: Any) -> Any:
    def pooling(input: Any, kernel_size: Any, *more: Any, **options: Any) -> Any:
        only_stride = len(more) < 2 if not options else not more and set(options) == {"stride"}
        if only_stride and _is_whole(input, kernel_size, axes):  # which makes one step at most
            return whole(input, axes)
        return original(input, kernel_size, *more, **options)

    return pooling


def _is_whole(given: Any, window: Any, axes: int) -> bool:
    """Whether a window of lengths is known to be that of an image, whatever its size."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    sides = list(window) if isinstance(window, (tuple, list)) else [window] * axes
    if len(sides) != axes or not any(map(is_length, sides)) or given.ndim < axes:
        return False
    lengths = given.shape[-axes:]
    return all(statically_known_true(s == n) for s, n in zip(sides, lengths, strict=True))


def _mean(given: Any, axes: int) -> Any:
    return given.mean(dim=tuple(range(-axes, 0)), keepdim=True)


def _largest(given: Any, axes: int) -> Any:
    from torch.nn import functional

    return getattr(functional, f"adaptive_max_pool{axes}d")(given, 1)
