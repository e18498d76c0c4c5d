"""Distances and similarities."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from torch2mlx.kit.precision import in_float32


@in_float32
def cosine_similarity(a: mx.array, b: mx.array, dim: int = 1, eps: float = 1e-8) -> mx.array:
    """torch's cosine_similarity: each vector over its norm, which is at least eps."""
    length = lambda x: mx.maximum(norm(x, dim, True), eps)  # noqa: E731
    a, b = mx.broadcast_arrays(a, b)
    return mx.sum((a / length(a)) * (b / length(b)), axis=dim)


def norm(x: mx.array, axis: Any = None, keepdims: bool = False) -> mx.array:
    """The Euclidean norm over axes; its gradient at zero is zero, where mx.linalg.norm's is NaN."""
    total = mx.sum(mx.square(x), axis=axis, keepdims=keepdims)
    return mx.where(total > 0, mx.sqrt(mx.where(total > 0, total, 1)), total)


def power_norm(x: mx.array, p: float, axis: Any = None, keepdims: bool = False) -> mx.array:
    """The p-norm over axes, for any p from 0 to infinity; its gradient at zero is zero."""
    size = mx.abs(x)
    if p == float("inf"):
        return mx.max(size, axis=axis, keepdims=keepdims)
    if p == float("-inf"):
        return mx.min(size, axis=axis, keepdims=keepdims)
    if p == 0:
        return mx.sum((x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if p == 1:
        return mx.sum(size, axis=axis, keepdims=keepdims)
    if p < 0:
        return mx.power(mx.sum(mx.power(size, p), axis=axis, keepdims=keepdims), 1 / p)
    still = size == 0  # where the power has no slope, or one without bound
    total = mx.sum(
        mx.where(still, 0, mx.power(mx.where(still, 1, size), p)), axis=axis, keepdims=keepdims
    )
    safe = mx.where(total == 0, 1, total)
    return mx.where(total == 0, 0, mx.power(safe, 1 / p))


@in_float32
def pairwise_distance(
    a: mx.array, b: mx.array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> mx.array:
    """torch's pairwise_distance: the norm of a - b + eps along the last axis."""
    return power_norm(a - b + eps, p, -1, keepdim)


@in_float32
def cdist(a: mx.array, b: mx.array, p: float = 2.0) -> mx.array:
    """All distances of rows: (..., P, M), (..., R, M) -> (..., P, R)."""
    return power_norm(a[..., :, None, :] - b[..., None, :, :], p, -1)


@in_float32
def pdist(x: mx.array, p: float = 2.0) -> mx.array:
    """Distances of all pairs of rows i < j, in order: (N, M) -> (N * (N - 1) / 2,)."""
    import numpy as np

    i, j = np.triu_indices(x.shape[0], 1)
    return power_norm(x[mx.array(i)] - x[mx.array(j)], p, -1)


@in_float32
def normalize(x: mx.array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> mx.array:
    """x over its p-norm, which is at least eps."""
    return x / mx.maximum(power_norm(x, p, dim, True), eps)
