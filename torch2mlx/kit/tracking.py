"""Normalisation that keeps running statistics, as functions: they are given, and given back."""

from __future__ import annotations

import mlx.core as mx

from torch2mlx.kit import norm


def _tracked(
    x: mx.array,
    axes: tuple[int, ...],
    affine: tuple[mx.array | None, mx.array | None],
    old: tuple[mx.array, mx.array],
    momentum: float | mx.array,
    eps: float,
) -> tuple[mx.array, mx.array, mx.array]:
    """x normalised by its own statistics over axes, in float32 as torch does for half formats, and
    the running ones after one more batch; no gradient goes through these."""
    wide = x.astype(mx.float32)
    mean, var = norm.statistics(wide, axes)
    y = norm.standardized(wide, mean, var, *affine, eps).astype(x.dtype)
    found = norm.running(mean, var, x.size // max(mean.size, 1))
    after = [
        norm.moved(a, mx.stop_gradient(b.astype(a.dtype)), momentum)
        for a, b in zip(old, found, strict=True)
    ]
    return y, after[0], after[1]


def batch_norm(
    x: mx.array,
    running_mean: mx.array,
    running_var: mx.array,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    training: bool = True,
    momentum: float | mx.array = 0.1,
    eps: float = 1e-5,
) -> tuple[mx.array, mx.array, mx.array]:
    """torch.nn.functional.batch_norm: the result, and the running mean and variance after it.

    x: (N, ..., C), the others (C,). In training x is normalised by its own statistics, and the
    running ones move by `momentum`; otherwise by the running ones, which stay. Raises ValueError in
    training for one value per channel, which has no variance.
    """
    if not training:
        y = norm.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
        return y, running_mean, running_var
    if x.size == x.shape[-1]:
        raise ValueError(f"batch norm in training needs more than one value per channel: {x.shape}")
    axes, old = tuple(range(x.ndim - 1)), (running_mean, running_var)
    return _tracked(x, axes, (weight, bias), old, momentum, eps)


def instance_norm(
    x: mx.array,
    running_mean: mx.array,
    running_var: mx.array,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    training: bool = True,
    momentum: float | mx.array = 0.1,
    eps: float = 1e-5,
) -> tuple[mx.array, mx.array, mx.array]:
    """torch.nn.functional.instance_norm: the result, and the running mean and variance after it.

    x: (N, *spatial, C), the others (C,). The running ones move by `momentum` towards the averages
    of those of the samples. Raises ValueError in training for one value per channel and sample.
    """
    if not training:
        y = norm.instance_norm(x, running_mean, running_var, weight, bias, False, eps=eps)
        return y, running_mean, running_var
    if x.size == x.shape[0] * x.shape[-1]:
        raise ValueError(f"instance norm needs more than one value per channel: {x.shape}")
    axes, old = tuple(range(1, x.ndim - 1)), (running_mean, running_var)
    return _tracked(x, axes, (weight, bias), old, momentum, eps)
