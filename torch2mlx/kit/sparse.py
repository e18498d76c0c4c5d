"""Sparse tensors as the dense arrays that MLX has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx


def dense(indices: Any, values: Any, size: Sequence[int] | None = None) -> mx.array:
    """torch.sparse_coo_tensor, as a dense array: `values` (K, ...) stand at the places `indices`
    (D, K) of the first D axes, and those that share a place add up.

    `size` is the whole shape; without it the shape is the smallest that has all places, which are
    read on the host. Gradients reach `values`. Raises ValueError for a place outside of `size`.
    """
    places, held = mx.array(indices), mx.array(values)
    if held.ndim == 0:
        held = mx.broadcast_to(held, (places.shape[1],))
    highest = [int(n) for n in places.max(axis=1).tolist()] if places.size else [-1] * len(places)
    shape = tuple(size) if size is not None else (*(n + 1 for n in highest), *held.shape[1:])
    if any(n >= most for n, most in zip(highest, shape, strict=False)) or (
        places.size and int(places.min().item()) < 0
    ):
        raise ValueError(f"indices reach {tuple(highest)}, outside of size {shape}")
    if not places.size:
        return mx.zeros(shape, dtype=held.dtype)
    return mx.zeros(shape, dtype=held.dtype).at[tuple(places)].add(held)
