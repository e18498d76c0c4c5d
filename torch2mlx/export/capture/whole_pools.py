"""Pooling over all of an image while a model is traced: `F.avg_pool2d(x, x.shape[2:])`. torch's
operators take plain numbers for the window, and would fix the lengths; means and maxima do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch2mlx.export.capture.everywhere import replaced_everywhere
from torch2mlx.export.capture.kept_lengths import is_length


@contextmanager
def whole_pools() -> Iterator[None]:
    """While open, pooling whose window is as long as the image is a mean or a maximum."""
    from torch.nn import functional

    kinds = [(f"{name}{n}d", n, made) for name, made in _WHOLE.items() for n in (1, 2, 3)]
    pools = [(pool, _pooling(getattr(functional, pool), n, made)) for pool, n, made in kinds]
    with replaced_everywhere([(functional, pool, own) for pool, own in pools]):
        yield


def _pooling(original: Any, axes: int, whole: Any) -> Any:
    def pooling(input: Any, kernel_size: Any, *more: Any, **options: Any) -> Any:
        only_stride = len(more) < 2 if not options else not more and set(options) == {"stride"}
        dims = _reduced(input, kernel_size, axes) if only_stride else ()
        if len(dims) == axes or (dims and not more and not options):
            return whole(input, dims, axes)  # which makes one step at most, whatever the stride
        return original(input, kernel_size, *more, **options)

    return pooling


def _reduced(given: Any, window: Any, axes: int) -> tuple[int, ...]:
    """The axes that a window of lengths is known to cover, whatever their sizes, where it is one
    long along all others; none where that is not known."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    sides = list(window) if isinstance(window, (tuple, list)) else [window] * axes
    if len(sides) != axes or not any(map(is_length, sides)) or given.ndim < axes:
        return ()
    pairs = zip(sides, given.shape[-axes:], range(-axes, 0), strict=True)
    rest = [(side, axis) for side, n, axis in pairs if not statically_known_true(side == n)]
    if any(is_length(side) or side != 1 for side, _ in rest):
        return ()
    return tuple(axis for axis in range(-axes, 0) if axis not in [left for _, left in rest])


def _mean(given: Any, dims: tuple[int, ...], axes: int) -> Any:
    return given.mean(dim=dims, keepdim=True)


def _largest(given: Any, dims: tuple[int, ...], axes: int) -> Any:
    from torch.nn import functional

    if len(dims) == axes:
        return getattr(functional, f"adaptive_max_pool{axes}d")(given, 1)
    for axis in dims:
        given = given.max(axis, keepdim=True).values
    return given


_WHOLE = {"avg_pool": _mean, "max_pool": _largest}
