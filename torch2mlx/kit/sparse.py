"""Sparse tensors as the dense arrays that MLX has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit import indexing


def dense(indices: Any, values: Any, size: Sequence[int] | None = None) -> mx.array:
    """torch.sparse_coo_tensor, as a dense array: `values` (K, ...) stand at the places `indices`
    (D, K) of the first D axes, and those that share a place add up.

    `size` is the whole shape; without it the shape is the smallest that has all places, which are
    read on the host. Gradients reach `values`. Raises ValueError for a place outside of `size`.
    """
    places, held = mx.array(indices), mx.array(values)
    if held.ndim == 0:
        held = mx.broadcast_to(held, (places.shape[1],))
    read = np.array(places)
    least = (*(read.max(axis=1, initial=-1) + 1).tolist(), *held.shape[1:])
    shape = least if size is None else tuple(size)
    if (read < 0).any() or any(a > b for a, b in zip(least, shape, strict=True)):
        raise ValueError(f"indices ask for {least}, which size {shape} does not hold")
    empty = mx.zeros(shape, dtype=held.dtype)
    return indexing.accumulate(empty, tuple(places), held) if read.size else empty
