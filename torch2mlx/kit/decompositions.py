"""Decompositions of matrices and what is solved with them, where mlx.core.linalg lacks an option.

Matrices are (..., M, N) of float32; MLX decomposes them on its CPU stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mlx.core as mx

from torch2mlx.kit import algebra, matrices


def _triangles(x: mx.array) -> tuple[mx.array, mx.array]:
    """The lower triangle with ones on the diagonal, and the upper one, of packed factors."""
    m, n = x.shape[-2:]
    k = min(m, n)
    lower = mx.tril(x[..., :, :k], -1) + mx.eye(m, k, dtype=x.dtype)
    return lower, mx.triu(x[..., :k, :])


def _permutation(rows: mx.array, dtype: mx.Dtype) -> mx.array:
    """P (..., M, M) with P[rows[i], i] = 1."""
    n = rows.shape[-1]
    return (mx.arange(n)[:, None] == rows[..., None, :]).astype(dtype)


def lu(x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """torch.linalg.lu: P, L and U with P @ L @ U = x."""
    order, lower, upper = _pivoted(x)
    return _permutation(order, x.dtype), lower, upper


def _pivoted(x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """The order of rows with x[order] = L @ U, L and U; MLX gives that with L[order] @ U = x."""
    places, lower, upper = mx.linalg.lu(x, stream=mx.cpu)
    return mx.argsort(places.astype(mx.int32), axis=-1).astype(mx.int32), lower, upper


def _swaps(rows: mx.array) -> mx.array:
    """Rows in their order after pivoting as the exchanges (from 1) that make it, as LAPACK's."""
    count = rows.shape[-1]
    order = mx.broadcast_to(mx.arange(count), rows.shape)
    made = []
    for i in range(count):
        wanted = rows[..., i : i + 1]
        at = mx.argmax(order == wanted, axis=-1, keepdims=True)
        made.append(at + 1)
        there, here = mx.arange(count) == at, mx.arange(count) == i
        order = mx.where(there, order[..., i : i + 1], mx.where(here, wanted, order))
    return mx.concatenate(made, axis=-1).astype(mx.int32)


def lu_factor(x: mx.array) -> tuple[mx.array, mx.array]:
    """torch.linalg.lu_factor: L below and U on and above the diagonal of one matrix, and pivots
    (..., min(M, N)), int32, counted from 1."""
    order, lower, upper = _pivoted(x)
    m, n = x.shape[-2:]
    k = min(m, n)
    wide = mx.pad(mx.tril(lower, -1), [(0, 0)] * (x.ndim - 1) + [(0, n - k)])
    tall = mx.pad(upper, [(0, 0)] * (x.ndim - 2) + [(0, m - k), (0, 0)])
    return wide + tall, _swaps(order)[..., :k]


def _order(pivots: mx.array, count: int) -> mx.array:
    """The order of rows that exchanges make."""
    pivots = mx.stop_gradient(pivots)
    order = mx.broadcast_to(mx.arange(count), (*pivots.shape[:-1], count))
    for i in range(pivots.shape[-1]):
        at = pivots[..., i : i + 1] - 1
        there = mx.take_along_axis(order, at, axis=-1)
        here = order[..., i : i + 1]
        steps = mx.arange(count)
        order = mx.where(steps == i, there, mx.where(steps == at, here, order))
    return order


def lu_unpack(data: mx.array, pivots: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """torch.lu_unpack: P, L and U of the factors and pivots of `lu_factor`."""
    order = _order(pivots.astype(mx.int32), data.shape[-2])
    return _permutation(order, data.dtype), *_triangles(data)


def lu_solve(
    factors: mx.array, pivots: mx.array, b: mx.array, left: bool = True, adjoint: bool = False
) -> mx.array:
    """torch.linalg.lu_solve: X in A @ X = b (X @ A = b unless `left`) for a factored A."""
    p, lower, upper = lu_unpack(factors, pivots)
    a = p @ (lower @ upper)
    a = a.swapaxes(-1, -2) if adjoint else a
    if left:
        return algebra.solve(*_alike(a, b))
    turned = algebra.solve(*_alike(a.swapaxes(-1, -2), b.swapaxes(-1, -2)))
    return turned.swapaxes(-1, -2)


def _alike(a: mx.array, b: mx.array) -> tuple[mx.array, mx.array]:
    """Matrices with their batch axes broadcast."""
    batch = mx.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return (
        mx.broadcast_to(a, (*batch, *a.shape[-2:])),
        mx.broadcast_to(b, (*batch, *b.shape[-2:])),
    )


def cholesky_inverse(factor: mx.array, upper: bool = False) -> mx.array:
    """torch.cholesky_inverse: the inverse of the matrix of a Cholesky factor."""
    root = factor.swapaxes(-1, -2) if upper else factor
    root = mx.tril(root)
    return algebra.inv(root @ root.swapaxes(-1, -2))


def tensorinv(x: mx.array, ind: int = 2) -> mx.array:
    """torch.linalg.tensorinv: the inverse of x as a map from its last axes to its first `ind`."""
    before, after = x.shape[:ind], x.shape[ind:]
    flat = x.reshape(math.prod(before), -1)
    return algebra.inv(flat).reshape(*after, *before)


def tensorsolve(a: mx.array, b: mx.array, dims: Sequence[int] | None = None) -> mx.array:
    """torch.linalg.tensorsolve: X with tensordot(a, X, X.ndim) = b; `dims` of a come last."""
    if dims is not None:
        moved = [d % a.ndim for d in dims]
        a = a.transpose(*(i for i in range(a.ndim) if i not in moved), *moved)
    shape = a.shape[b.ndim :]
    return algebra.solve(a.reshape(b.size, -1), b.reshape(-1)).reshape(shape)


def singular_values(x: mx.array, hermitian: bool = False) -> mx.array:
    """Singular values (..., min(M, N)); of a Hermitian matrix, sizes of its eigenvalues."""
    if hermitian:
        return mx.abs(mx.linalg.eigvalsh(x, stream=mx.cpu))
    return matrices.svdvals(x)


def matrix_rank(
    x: mx.array, rtol: float | None = None, atol: float = 0.0, hermitian: bool = False
) -> mx.array:
    """torch.linalg.matrix_rank: how many singular values are above max(atol, rtol * largest)."""
    values = singular_values(x, hermitian)
    if rtol is None:
        rtol = 0.0 if atol else max(x.shape[-2:]) * 2.0**-23
    limit = mx.maximum(atol, rtol * mx.max(values, axis=-1, keepdims=True))
    return mx.sum(values > limit, axis=-1).astype(mx.int64)


def cond(x: mx.array, p: float | str | None = None) -> mx.array:
    """torch.linalg.cond: the norm of x times that of its inverse; largest over smallest singular
    value unless p says otherwise."""
    if p in (None, 2, -2):
        values = singular_values(x)
        largest, smallest = mx.max(values, axis=-1), mx.min(values, axis=-1)
        return smallest / largest if p == -2 else largest / smallest
    if p == "nuc":
        return mx.sum(singular_values(x), -1) * mx.sum(singular_values(algebra.inv(x)), -1)
    return _norm(x, p) * _norm(algebra.inv(x), p)


def _norm(x: mx.array, p: float | str) -> mx.array:
    if p == "fro":
        return mx.sqrt(mx.sum(mx.square(x), axis=(-1, -2)))
    if isinstance(p, str):
        raise ValueError(f"p={p!r}: a norm is a number, 'fro' or 'nuc'")
    sums = mx.sum(mx.abs(x), axis=-2 if abs(p) == 1 else -1)
    return mx.max(sums, axis=-1) if p > 0 else mx.min(sums, axis=-1)
