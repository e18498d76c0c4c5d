"""Scatter, gather by masks, and boolean selection, with torch's meaning."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, overload

import mlx.core as mx

from torch2mlx.kit.stubs import custom_function


def _places(index: mx.array, dim: int) -> tuple[mx.array, ...]:
    """Indices of every axis: `index` along `dim`, its own position along the others."""
    dim %= index.ndim
    return tuple(
        index
        if axis == dim
        else mx.arange(n).reshape([-1 if d == axis else 1 for d in range(index.ndim)])
        for axis, n in enumerate(index.shape)
    )


@overload
def _cut(source: mx.array, index: mx.array) -> mx.array: ...
@overload
def _cut(source: float, index: mx.array) -> float: ...
def _cut(source: mx.array | float, index: mx.array) -> mx.array | float:
    """The part of a source that an index of a smaller shape reads."""
    if not isinstance(source, mx.array) or source.ndim == 0:
        return source
    return source[tuple(slice(n) for n in index.shape)]


def _scattering(x: mx.array) -> AbstractContextManager[Any]:
    """Where MLX writes to positions of x: it puts no items of 64 bits on a GPU."""
    return mx.stream(mx.cpu) if x.dtype.size == 8 else nullcontext()


def gather(x: mx.array, dim: int, index: mx.array) -> mx.array:
    """torch.gather, also where `index` is smaller than x in other dimensions."""
    dim %= x.ndim
    cut = tuple(slice(None) if a == dim else slice(n) for a, n in enumerate(index.shape))
    return mx.take_along_axis(x[cut], index, axis=dim)


def scatter(x: mx.array, dim: int, index: mx.array, source: mx.array | float) -> mx.array:
    """torch.scatter: x with items of `source` at `index`; which of equal indices wins is open."""
    return assign(x, _places(index, dim), _cut(source, index))


def scatter_add(x: mx.array, dim: int, index: mx.array, source: mx.array) -> mx.array:
    """torch.scatter_add: equal indices add up."""
    return accumulate(x, _places(index, dim), _cut(source, index))


_NEUTRAL = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -mx.inf, "amin": mx.inf}


def scatter_reduce(
    x: mx.array,
    dim: int,
    index: mx.array,
    source: mx.array,
    reduce: str,
    include_self: bool = True,
) -> mx.array:
    """torch.scatter_reduce: "sum", "prod", "mean", "amax" or "amin" of what meets at an index.

    Equal items share the gradient of an extreme; a product has one through its zeros too.
    """
    if reduce not in _NEUTRAL:
        raise ValueError(f"reduce={reduce!r}: choose one of {', '.join(_NEUTRAL)}")
    source = _cut(source, index)
    if reduce in ("sum", "mean"):
        return _reduced(x, dim, index, source, reduce, include_self)
    slopes = _slopes_of_product if reduce == "prod" else _slopes_of_extreme

    @custom_function
    def reduced(x, index, source):
        return _reduced(x, dim, index, source, reduce, include_self)

    @reduced.vjp
    def reduced_vjp(primals, cotangent, output):
        x, index, source = primals
        ours, theirs = slopes(
            lambda x, source: _reduced(x, dim, index, source, reduce, include_self),
            lambda hit: scatter_add(mx.zeros(x.shape, x.dtype), dim, index, hit),
            lambda found: found[_places(index, dim)],
            (x, source, cotangent, output),
        )
        if not include_self:
            ours = scatter(ours, dim, index, 0)
        return ours, mx.zeros_like(index), theirs

    return reduced(x, index, source)


def _reduced(x, dim, index, source, reduce, include_self):
    places = _places(index, dim)
    hits = accumulate(mx.zeros(x.shape, x.dtype), places, mx.ones(index.shape, x.dtype))
    start = x if include_self else mx.where(hits > 0, _neutral(reduce, x.dtype), x)
    at = start.at[places]
    update = {"sum": at.add, "mean": at.add, "prod": at.multiply}
    update |= {"amax": at.maximum, "amin": at.minimum}
    with _scattering(x):
        result = update[reduce](source)
    if reduce in ("amax", "amin") and mx.issubdtype(x.dtype, mx.floating):
        # MLX's updates forget a NaN that another item follows
        spoilt = accumulate(_nans(start, x.dtype), places, _nans(source, x.dtype))
        result = mx.where(spoilt > 0, mx.nan, result)
    if reduce == "mean":
        counted = mx.maximum(hits + (1 if include_self else 0), 1)
        whole = mx.issubdtype(x.dtype, mx.integer)
        result = mx.where(hits > 0, result // counted if whole else result / counted, result)
    return result


def _nans(x: mx.array, dtype: mx.Dtype) -> mx.array:
    return mx.isnan(x).astype(dtype)


def _neutral(reduce: str, dtype: mx.Dtype) -> mx.array:
    """What changes nothing: of integers, which have no infinity, their own limit."""
    value = _NEUTRAL[reduce]
    if mx.issubdtype(dtype, mx.integer) and abs(value) == mx.inf:
        value = mx.iinfo(dtype).max if value > 0 else mx.iinfo(dtype).min
    return mx.array(value, dtype)


def _slopes_of_extreme(again, counted, read, values):
    """torch's gradients of x and the source: shared by all that equal the extreme."""
    x, source, cotangent, output = values
    ours = (x == output).astype(x.dtype)
    theirs = (source == read(output)).astype(x.dtype)
    share = cotangent / mx.maximum(ours + counted(theirs), 1)
    return ours * share, theirs * read(share)


def _slopes_of_product(again, counted, read, values):
    """torch's gradients of x and the source: the product of the other factors."""
    x, source, cotangent, output = values
    factor = mx.where(x == 0, 1, x)
    zero = source == 0
    alone = zero & (read(counted(zero.astype(x.dtype))) == 1)
    others = read(cotangent * again(x, mx.where(alone, 1, source)))
    theirs = read(cotangent * output) / mx.where(zero, 1, source)
    return cotangent * again(factor, source) / factor, mx.where(alone, others, theirs)


def index_add(
    x: mx.array, dim: int, index: mx.array, source: mx.array, alpha: float = 1.0
) -> mx.array:
    """torch.index_add: rows of `source`, times alpha, added to rows `index` of x."""
    return accumulate(x, (slice(None),) * (dim % x.ndim) + (index,), alpha * source)


def _positions(indices: tuple[mx.array | None, ...]) -> tuple:
    """Indices for MLX: None is a whole axis, a mask the positions where it is true."""
    places: list = []
    for index in indices:
        if index is not None and index.dtype == mx.bool_:
            found = nonzero(index)
            places += [found[:, axis] for axis in range(index.ndim)]
        else:
            places.append(slice(None) if index is None else index)
    return tuple(places)


def index(x: mx.array, indices: tuple[mx.array | None, ...]) -> mx.array:
    """torch's x[indices]: positions, masks in any place, None for a whole axis; reads how many
    items a mask holds."""
    return x[_positions(indices)]


def index_put(
    x: mx.array, indices: tuple[mx.array | None, ...], values: mx.array, accumulate: bool = False
) -> mx.array:
    """torch.index_put; None takes a whole dimension; a boolean index reads its count."""
    places = _positions(indices)
    if any(isinstance(place, mx.array) and place.size == 0 for place in places):
        return x
    return _put(x, places, values, accumulate)


def _put(x: mx.array, where: Any, values: Any, accumulate: bool) -> mx.array:
    with _scattering(x):
        if accumulate:
            return x.at[tuple(where)].add(values)
        result = mx.array(x)
        result[tuple(where)] = values
        return result


def nonzero(x: mx.array) -> mx.array:
    """torch.nonzero: positions (count, ndim) of items that are not zero; reads the count."""
    flat = mx.stop_gradient(x != 0).reshape(-1)
    count: Any = flat.sum().item()
    found = mx.sort(mx.where(flat, mx.arange(flat.size), flat.size))[:count]
    columns = []
    for n in reversed(x.shape):
        columns.append(found % n)
        found = found // n
    return mx.stack(columns[::-1], axis=-1) if columns else mx.zeros((count, 0), mx.int32)


def nonzero_static(x: mx.array, size: int, fill_value: int = -1) -> mx.array:
    """torch.nonzero_static: the first `size` positions (size, ndim) that are not zero, rows of
    `fill_value` where there are fewer; reads nothing."""
    flat = mx.stop_gradient(x != 0).reshape(-1)
    found = mx.sort(mx.where(flat, mx.arange(flat.size), flat.size))[:size]
    found = mx.pad(found, (0, size - found.size), constant_values=flat.size)
    there, columns = found < flat.size, []
    for n in reversed(x.shape):
        columns.append(mx.where(there, found % n, fill_value))
        found = found // n
    return mx.stack(columns[::-1], axis=-1) if columns else mx.zeros((size, 0), mx.int32)


def masked_select(x: mx.array, mask: mx.array) -> mx.array:
    """torch.masked_select: the items where the mask is true, in a row; reads their number."""
    x, mask = mx.broadcast_arrays(x, mask)
    return x.reshape(-1)[nonzero(mask.reshape(-1))[:, 0]]


def masked_scatter(x: mx.array, mask: mx.array, source: mx.array) -> mx.array:
    """torch.masked_scatter: items of `source`, in order, where the mask is true."""
    if source.size == 0:
        return x  # the mask is false everywhere
    mask = mx.stop_gradient(mx.broadcast_to(mask, x.shape)).reshape(-1)
    place = mx.maximum(mx.cumsum(mask.astype(mx.int32)) - 1, 0)
    taken = mx.take(source.reshape(-1), mx.minimum(place, source.size - 1))
    return mx.where(mask, taken, x.reshape(-1)).reshape(x.shape)


def assign(x: mx.array, where, values) -> mx.array:
    """x with x[where] = values, `where` a sequence of indices; x itself stays as it was."""
    return _put(x, where, values, False)


def accumulate(x: mx.array, where, values) -> mx.array:
    """x with x[where] += values, equal positions adding up."""
    return _put(x, where, values, True)


def masked_rows(x: mx.array, mask: mx.array) -> mx.array:
    """x[mask] for a boolean mask over the first axes: (count, *rest); reads the count."""
    flat = x.reshape(mask.size, *x.shape[mask.ndim :])
    return flat[nonzero(mask.reshape(-1))[:, 0]]


def masked_rows_put(x: mx.array, mask: mx.array, values: mx.array | float) -> mx.array:
    """x with x[mask] = values for a mask over the first axes; values (count, *rest) or
    broadcast."""
    values = values if isinstance(values, mx.array) else mx.array(values)
    if values.size == 0:
        return x  # the mask is false everywhere
    flat = mx.stop_gradient(mask).reshape(-1)
    rows = x.reshape(mask.size, *x.shape[mask.ndim :])
    if values.ndim == rows.ndim and values.shape[0] != 1:
        place = mx.clip(mx.cumsum(flat.astype(mx.int32)) - 1, 0, values.shape[0] - 1)
        values = values[place]
    mask = flat.reshape(-1, *[1] * (rows.ndim - 1))
    return mx.where(mask, values, rows).reshape(x.shape)


def diagonal_scatter(
    x: mx.array, source: mx.array, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> mx.array:
    """torch.diagonal_scatter: x with the diagonal of two axes replaced."""
    first, second = dim1 % x.ndim, dim2 % x.ndim
    order = [*(a for a in range(x.ndim) if a not in (first, second)), first, second]
    turned = x.transpose(*order)
    steps = mx.arange(source.shape[-1])
    rows, columns = steps - min(offset, 0), steps + max(offset, 0)
    result = assign(turned, (..., rows, columns), source)
    return result.transpose(*(order.index(a) for a in range(x.ndim)))
