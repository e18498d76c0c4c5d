"""Normalisation that keeps running statistics, as functions: they are given, and given back."""

from __future__ import annotations

import mlx.core as mx

from torch2mlx.kit import norm


def _tracked(old: mx.array, value: mx.array, momentum: float | mx.array) -> mx.array:
    """A running statistic after one more batch; no gradient goes through it."""
    value = mx.stop_gradient(value.astype(old.dtype))
    return ((1 - momentum) * old + momentum * value).astype(old.dtype)


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
    axes, wide = tuple(range(x.ndim - 1)), x.astype(mx.float32)  # as torch does for half formats
    mean, var = mx.mean(wide, axes), mx.var(wide, axes, ddof=1)
    y = norm.batch_norm(wide, None, None, weight, bias, True, eps=eps).astype(x.dtype)
    return y, _tracked(running_mean, mean, momentum), _tracked(running_var, var, momentum)


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
    axes, wide = tuple(range(1, x.ndim - 1)), x.astype(mx.float32)
    mean, var = mx.mean(mx.mean(wide, axes), 0), mx.mean(mx.var(wide, axes, ddof=1), 0)
    y = norm.instance_norm(wide, None, None, weight, bias, eps=eps).astype(x.dtype)
    return y, _tracked(running_mean, mean, momentum), _tracked(running_var, var, momentum)
