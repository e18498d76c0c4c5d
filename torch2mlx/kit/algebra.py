"""Linear algebra that mlx.core.linalg lacks."""

from __future__ import annotations

import mlx.core as mx


def det(x: mx.array) -> mx.array:
    """The determinant of (..., N, N) matrices, from their LU decomposition on the CPU stream."""
    n = x.shape[-1]
    rows, _, upper = mx.linalg.lu(x, stream=mx.cpu)
    order = rows.astype(mx.int32)
    later = mx.tril(mx.ones((n, n), mx.bool_), -1)
    swaps = mx.sum((order[..., :, None] < order[..., None, :]) & later, axis=(-1, -2))
    sign = 1 - 2 * (swaps % 2)
    diagonal = mx.diagonal(upper, 0, -2, -1)
    return mx.prod(diagonal, axis=-1) * sign.astype(x.dtype)


def pinv(x: mx.array, rtol: float, atol: float = 0.0) -> mx.array:
    """The pseudo-inverse of (..., M, N): singular values up to max(atol, rtol * largest) count as
    0."""
    u, s, vt = mx.linalg.svd(x, stream=mx.cpu)
    count = s.shape[-1]
    u, vt = u[..., :count], vt[..., :count, :]
    kept = s > mx.maximum(atol, rtol * mx.max(s, axis=-1, keepdims=True))
    inverse = mx.where(kept, 1 / mx.where(kept, s, 1), 0)
    return (vt.swapaxes(-1, -2) * inverse[..., None, :]) @ u.swapaxes(-1, -2)
