"""torch's reductions that mlx.core lacks: those that leave NaNs out, and pairs of results."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx

from torch2mlx.kit import sorting, tensors


class Extremes(NamedTuple):
    """What aminmax returns."""

    min: mx.array
    max: mx.array


def aminmax(x: mx.array, dim: int | None = None, keepdim: bool = False) -> Extremes:
    """torch.aminmax: the smallest and the largest of all items, or along an axis."""
    return Extremes(mx.min(x, dim, keepdim), mx.max(x, dim, keepdim))


def std_mean(x: mx.array, dim: Any = None, **options: Any) -> tuple[mx.array, mx.array]:
    """torch.std_mean; options: `unbiased`, `correction`, `keepdim`."""
    keepdim = options.get("keepdim", False)
    return tensors.std(x, dim, **options), mx.mean(x, dim, keepdim)


def var_mean(x: mx.array, dim: Any = None, **options: Any) -> tuple[mx.array, mx.array]:
    """torch.var_mean; options: `unbiased`, `correction`, `keepdim`."""
    keepdim = options.get("keepdim", False)
    return tensors.var(x, dim, **options), mx.mean(x, dim, keepdim)


def _filled(x: mx.array) -> mx.array:
    return mx.where(mx.isnan(x), 0, x) if mx.issubdtype(x.dtype, mx.inexact) else x


def nansum(x: mx.array, dim: Any = None, keepdim: bool = False) -> mx.array:
    """torch.nansum: the sum of what is no NaN."""
    return mx.sum(_filled(x), dim, keepdim)


def nanmean(x: mx.array, dim: Any = None, keepdim: bool = False) -> mx.array:
    """torch.nanmean: the mean of what is no NaN; NaN where nothing is left."""
    count = mx.sum((~mx.isnan(x)).astype(x.dtype), dim, keepdim)
    return mx.sum(_filled(x), dim, keepdim) / count


def nanmedian(x: mx.array, dim: int | None = None, keepdim: bool = False) -> Any:
    """torch.nanmedian: the lower of two middle values of what is no NaN; with `dim`, and where."""
    if dim is None:
        return sorting.middle(x, without_nan=True)
    order = sorting.sort(x, dim).indices  # what is NaN comes last
    count = mx.sum((~mx.isnan(x)).astype(mx.int32), axis=dim, keepdims=True)
    middle = mx.take_along_axis(order, mx.maximum(count - 1, 0) // 2, axis=dim)
    middle = mx.stop_gradient(middle)
    values = mx.take_along_axis(x, middle, axis=dim)
    found = (values, middle) if keepdim else (values.squeeze(dim), middle.squeeze(dim))
    return sorting.Picked(*found)


def sum_to_size(x: mx.array, *size: Any) -> mx.array:
    """torch.Tensor.sum_to_size: summed over the axes that broadcasting to x's shape adds."""
    wanted = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    extra = x.ndim - len(wanted)
    ones = [extra + i for i, n in enumerate(wanted) if n == 1 and x.shape[extra + i] != 1]
    axes = (*range(extra), *ones)
    return mx.sum(x, axis=axes, keepdims=True).reshape(wanted) if axes else x
