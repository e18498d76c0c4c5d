"""Linear algebra that mlx.core.linalg lacks, or has without a gradient."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from torch2mlx.kit.stubs import custom_function


def det(x: mx.array) -> mx.array:
    """The determinant of (..., N, N) matrices, from their LU decomposition on the CPU stream, with
    a gradient where it is not zero."""

    def value(x):
        sign, diagonal = _factored(x)
        return mx.prod(diagonal, axis=-1) * sign

    run = custom_function(value)
    run.vjp(lambda x, cotangent, output: _by_inverse(x, cotangent * output))
    return run(x)


def _by_inverse(x: mx.array, cotangent: mx.array) -> mx.array:
    return cotangent[..., None, None] * inv(x).swapaxes(-1, -2)


class SignAndLog(NamedTuple):
    """What slogdet returns."""

    sign: mx.array
    logabsdet: mx.array


def slogdet(x: mx.array) -> SignAndLog:
    """The sign of the determinant of (..., N, N) matrices, and the logarithm of its size, which
    is a number where the determinant itself is none; with its gradient."""
    sign, diagonal = _factored(mx.stop_gradient(x))
    size = custom_function(lambda x: mx.sum(mx.log(mx.abs(diagonal)), axis=-1))
    size.vjp(lambda x, cotangent, _: _by_inverse(x, cotangent))
    return SignAndLog(mx.prod(mx.sign(diagonal), axis=-1) * sign, size(x))


def logdet(x: mx.array) -> mx.array:
    """The logarithm of the determinant of (..., N, N) matrices; NaN where that is negative."""
    sign, size = slogdet(x)
    return mx.where(sign < 0, mx.array(float("nan"), size.dtype), size)


def _factored(x: mx.array) -> tuple[mx.array, mx.array]:
    """The sign of the swaps of rows of the LU decomposition, and its diagonal."""
    n = x.shape[-1]
    rows, _, upper = mx.linalg.lu(x, stream=mx.cpu)
    order = rows.astype(mx.int32)
    later = mx.tril(mx.ones((n, n), mx.bool_), -1)
    swaps = mx.sum((order[..., :, None] < order[..., None, :]) & later, axis=(-1, -2))
    return (1 - 2 * (swaps % 2)).astype(x.dtype), mx.diagonal(upper, 0, -2, -1)


def pinv(x: mx.array, rtol: float, atol: float = 0.0) -> mx.array:
    """The pseudo-inverse of (..., M, N): singular values up to max(atol, rtol * largest) count as
    0."""
    u, s, vt = mx.linalg.svd(x, stream=mx.cpu)
    count = s.shape[-1]
    u, vt = u[..., :count], vt[..., :count, :]
    kept = s > mx.maximum(atol, rtol * mx.max(s, axis=-1, keepdims=True))
    inverse = mx.where(kept, 1 / mx.where(kept, s, 1), 0)
    return (vt.swapaxes(-1, -2) * inverse[..., None, :]) @ u.swapaxes(-1, -2)


def solve(a: mx.array, b: mx.array) -> mx.array:
    """X in a @ X = b, for a (..., N, N) and b (..., N, K) or (..., N); with gradients of both."""
    run = custom_function(lambda a, b: mx.linalg.solve(a, b, stream=mx.cpu))

    def backward(primals, cotangent, output):
        matrix = output.ndim == primals[0].ndim
        right = solve(primals[0].swapaxes(-1, -2), cotangent)
        if matrix:
            return -right @ output.swapaxes(-1, -2), right
        return -right[..., :, None] * output[..., None, :], right

    run.vjp(backward)
    return run(a, b)


def inv(x: mx.array) -> mx.array:
    """The inverse of (..., N, N) matrices, with a gradient."""
    run = custom_function(lambda x: mx.linalg.inv(x, stream=mx.cpu))

    def backward(primals, cotangent, output):
        turned = output.swapaxes(-1, -2)
        return -turned @ cotangent @ turned

    run.vjp(backward)
    return run(x)


def cholesky(x: mx.array, upper: bool = False) -> mx.array:
    """The lower or upper factor of (..., N, N) matrices, with a gradient, as torch's: a symmetric
    one."""
    if upper:
        return cholesky(x).swapaxes(-1, -2)
    run = custom_function(lambda x: mx.linalg.cholesky(x, stream=mx.cpu))

    def backward(primals, cotangent, output):
        inner = mx.tril(output.swapaxes(-1, -2) @ cotangent)
        inner = inner * (1 - 0.5 * mx.eye(x.shape[-1], dtype=x.dtype))
        inverse = inv(output)
        found = inverse.swapaxes(-1, -2) @ inner @ inverse
        return 0.5 * (found + found.swapaxes(-1, -2))

    run.vjp(backward)
    return run(x)


#: Terms of the series, enough for float64 where the norm is at most 1.
_TERMS = 18
#: How often a matrix is halved, and its exponential squared: up to a norm of 65536.
_HALVINGS = 16


def matrix_exp(x: mx.array) -> mx.array:
    """torch's: the exponential of (..., N, N) matrices; NaN for one with a norm above 65536."""
    norm = mx.stop_gradient(mx.abs(x).sum(axis=-2).max(axis=-1)[..., None, None])
    times = mx.maximum(mx.ceil(mx.log2(mx.maximum(norm, 1))), 0)
    x = x / mx.power(mx.array(2.0, times.dtype), times)
    one = mx.broadcast_to(mx.eye(x.shape[-1], dtype=x.dtype), x.shape)
    y = one
    for n in range(_TERMS, 0, -1):
        y = one + (x @ y) / n
    for n in range(_HALVINGS):
        y = mx.where(n < times, y @ y, y)
    return mx.where(times <= _HALVINGS, y, mx.array(float("nan"), y.dtype))


def householder_product(x: mx.array, tau: mx.array) -> mx.array:
    """torch.linalg.householder_product: the first N columns of the product of reflections whose
    vectors are below the diagonal of x (..., M, N), for tau (..., K)."""
    rows, columns = x.shape[-2:]
    vectors = mx.tril(x, -1) + mx.eye(rows, columns, dtype=x.dtype)
    y = mx.broadcast_to(mx.eye(rows, columns, dtype=x.dtype), x.shape)
    for i in reversed(range(tau.shape[-1])):
        v = vectors[..., i : i + 1]
        y = y - (tau[..., i, None, None] * v) @ (v.swapaxes(-1, -2) @ y)
    return y
