"""Arrays from torch's layout to MLX's and back: (N, C, *spatial) and (N, *spatial, C)."""

from __future__ import annotations

from typing import Any

import mlx.core as mx


def to_last(x: mx.array, axes: int | None = None) -> mx.array:
    """(N, C, *spatial) -> (N, *spatial, C); an array without spatial axes as it is.

    Raises ValueError when `axes` is given and there are not that many spatial axes: in an image
    without a batch, axes that are given as numbers would be others.
    """
    if axes is not None:
        check_batch(x, axes)
    return mx.moveaxis(x, 1, -1) if x.ndim > 2 else x


def broadcast_last(y: Any, axes: int) -> Any:
    """What is combined with images item by item as it has to be where their channels are last:
    (..., C, *spatial) -> (..., *spatial, C), less than that with an axis for the channels; numbers
    as they are. `axes`: the images' spatial axes. Raises ValueError for more axes than images have.
    """
    if not isinstance(y, mx.array) or y.ndim == 0:
        return y
    if y.ndim > axes + 2:
        raise ValueError(f"{y.shape} has more axes than images with {axes} spatial ones")
    return mx.moveaxis(y, -axes - 1, -1) if y.ndim > axes else y[..., None]


def to_first(x: mx.array) -> mx.array:
    """(N, *spatial, C) -> (N, C, *spatial); an array without spatial axes as it is."""
    return mx.moveaxis(x, -1, 1) if x.ndim > 2 else x


def check_batch(x: mx.array, rank: int) -> None:
    """Raises ValueError for an image without a batch: which axis is which would not be known."""
    if x.ndim != rank + 2:
        raise ValueError(
            f"expected a batch of images with {rank} spatial axes, got {x.shape}: an image alone "
            "needs an axis for the batch, x[None]"
        )
