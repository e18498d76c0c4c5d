"""Normalisation that keeps running statistics, as functions: they are given, and given back."""

from __future__ import annotations

import mlx.core as mx

from torch2mlx.kit import norm


def _tracked(
    x: mx.array, axes: tuple[int, ...], old: tuple[mx.array, mx.array], momentum: float | mx.array
) -> tuple[mx.array, mx.array]:
    """The running mean and variance after one more batch; no gradient goes through them."""
    found = norm.statistics(x, axes)
    mean, var = (
        norm.moved(a, mx.stop_gradient(b.astype(a.dtype)), momentum)
        for a, b in zip(old, found, strict=True)
    )
    return mean, var


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
    wide = x.astype(mx.float32)  # as torch does for half formats
    y = norm.batch_norm(wide, None, None, weight, bias, True, eps=eps).astype(x.dtype)
    axes = tuple(range(x.ndim - 1))
    return y, *_tracked(wide, axes, (running_mean, running_var), momentum)


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
    wide = x.astype(mx.float32)
    y = norm.instance_norm(wide, None, None, weight, bias, eps=eps).astype(x.dtype)
    axes = tuple(range(1, x.ndim - 1))
    return y, *_tracked(wide, axes, (running_mean, running_var), momentum)
