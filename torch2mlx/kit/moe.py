"""Mixtures of experts: rows sorted by expert, each group times its own matrix."""

from __future__ import annotations

import mlx.core as mx


def grouped_mm(x: mx.array, weight: mx.array, ends: mx.array) -> mx.array:
    """x (rows, D) in consecutive groups, weight (groups, D, F), `ends` (groups,) -> (rows, F).

    Row i belongs to the first group whose end is beyond i; rows past the last end give 0.
    """
    rows = mx.arange(x.shape[0])
    group = mx.sum(rows[:, None] >= ends[None], axis=1)
    inside = group < weight.shape[0]
    group = mx.minimum(group, weight.shape[0] - 1)
    y = sorted_mm(x, weight, group)
    return mx.where(inside[:, None], y, 0)


def sorted_mm(x: mx.array, weight: mx.array, experts: mx.array) -> mx.array:
    """x (rows, D), weight (experts, D, F), `experts` (rows,) in ascending order -> (rows, F): each
    row times the matrix of its expert."""
    dtype = x.dtype
    if mx.default_device() == mx.Device(mx.cpu):  # whose kernel knows float32 alone
        x, weight = x.astype(mx.float32), weight.astype(mx.float32)
    experts = experts.astype(mx.uint32)
    y = mx.gather_mm(x[:, None], weight, rhs_indices=experts, sorted_indices=True)
    return y[:, 0].astype(dtype)
