"""torch.linalg's functions of matrices that mlx.core.linalg lacks, or orders otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import mlx.core as mx

from torch2mlx.kit import algebra, distance


class Factors(NamedTuple):
    """What svd returns."""

    U: mx.array
    S: mx.array
    V: mx.array


def cholesky_solve(b: mx.array, factor: mx.array, upper: bool = False) -> mx.array:
    """torch.cholesky_solve: X in A @ X = b, from the Cholesky factor of A."""
    lower = factor.swapaxes(-1, -2) if upper else factor
    return algebra.solve(lower @ lower.swapaxes(-1, -2), b)


def matrix_power(x: mx.array, n: int) -> mx.array:
    """torch.linalg.matrix_power of (..., N, N); a negative n is of the inverse."""
    if n < 0:
        return matrix_power(algebra.inv(x), -n)
    if n == 0:
        return mx.broadcast_to(mx.eye(x.shape[-1], dtype=x.dtype), x.shape)
    return reduce(mx.matmul, [x] * n)


def multi_dot(tensors: Sequence[mx.array]) -> mx.array:
    """torch.linalg.multi_dot, torch.chain_matmul: the product of all, from left to right."""
    return reduce(mx.matmul, tensors)


def matrix_norm(
    x: mx.array, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False
) -> mx.array:
    """torch.linalg.matrix_norm over two axes: "fro", "nuc", 2, -2, 1, -1, inf and -inf."""
    stream = mx.cpu if ord in ("nuc", 2, -2) else None  # singular values: not on the GPU
    return mx.linalg.norm(x, ord=ord, axis=list(dim), keepdims=keepdim, stream=stream)


def vector_norm(x: mx.array, ord: float = 2, dim: Any = None, keepdim: bool = False) -> mx.array:
    """torch.linalg.vector_norm: of all items, or over axes."""
    size = mx.abs(x)
    if ord == 2:
        return distance.norm(size, dim, keepdim)
    if ord in (float("inf"), -float("inf")):
        return (mx.max if ord > 0 else mx.min)(size, axis=dim, keepdims=keepdim)
    if ord == 0:
        return mx.sum((x != 0).astype(size.dtype), axis=dim, keepdims=keepdim)
    return distance.power_norm(size, ord, dim, keepdim)


def svd(x: mx.array, some: bool = True, compute_uv: bool = True) -> Factors:
    """torch.svd of (..., M, N): U, S and V, not transposed; without `some` V and U are square.

    Raises ValueError for compute_uv=False, where torch's U and V are zeros: call svdvals.
    """
    if not compute_uv:
        raise ValueError("svd: compute_uv=False: call svdvals for the values alone")
    u, s, vt = mx.linalg.svd(x, stream=mx.cpu)
    count = s.shape[-1]
    u, vt = (u[..., :count], vt[..., :count, :]) if some else (u, vt)
    return Factors(u, s, vt.swapaxes(-1, -2))


def svdvals(x: mx.array) -> mx.array:
    """torch.linalg.svdvals of (..., M, N): singular values, the largest first."""
    values: Any = mx.linalg.svd(x, compute_uv=False, stream=mx.cpu)
    return values


def pinverse(x: mx.array, rcond: float = 1e-15) -> mx.array:
    """torch.pinverse of (..., M, N); 1e-15, torch's default, means max(M, N) * 2 ** -23."""
    limit = max(x.shape[-2:]) * 2.0**-23 if rcond == 1e-15 else rcond
    return algebra.pinv(x, limit)


def _with_info(x: mx.array, found: mx.array) -> tuple[mx.array, mx.array]:
    return found, mx.zeros(x.shape[:-2], mx.int32)


def cholesky_ex(x: mx.array, upper: bool = False, check_errors: bool = False) -> Any:
    """torch.linalg.cholesky_ex: the factor, and zeros; ValueError in place of other codes."""
    return _with_info(x, mx.linalg.cholesky(x, upper=upper, stream=mx.cpu))


def inv_ex(x: mx.array, check_errors: bool = False) -> Any:
    """torch.linalg.inv_ex: the inverse, and zeros; ValueError in place of other codes."""
    return _with_info(x, algebra.inv(x))


def solve_ex(a: mx.array, b: mx.array, left: bool = True, check_errors: bool = False) -> Any:
    """torch.linalg.solve_ex: X in a @ X = b (X @ a = b without `left`), and zeros."""
    if left:
        return _with_info(a, algebra.solve(a, b))
    turned = algebra.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2))
    return _with_info(a, turned.swapaxes(-1, -2))


def vander(x: mx.array, N: int | None = None, increasing: bool = False) -> mx.array:
    """torch.vander: powers of each number of (..., M) as (..., M, N), the highest first."""
    powers = mx.arange(x.shape[-1] if N is None else N)
    powers = powers if increasing else powers[::-1]
    return x[..., None] ** powers


def cov(
    x: mx.array, correction: int = 1, fweights: mx.array | None = None, aweights: Any = None
) -> mx.array:
    """torch.cov: covariances of rows (N, M) as (N, N); of one row a number.

    Raises ValueError for weights.
    """
    if fweights is not None or aweights is not None:
        raise ValueError("cov: fweights and aweights are not counted; repeat the columns")
    rows = x.astype(mx.float32) if not mx.issubdtype(x.dtype, mx.floating) else x
    rows = rows.reshape(1, -1) if x.ndim < 2 else rows
    centred = rows - mx.mean(rows, axis=1, keepdims=True)
    found = centred @ centred.T / (rows.shape[1] - correction)
    return found.reshape(()) if x.ndim < 2 else found
