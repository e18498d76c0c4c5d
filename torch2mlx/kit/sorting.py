"""Order: sort and topk with torch's order of ties, unique, bucketize, kthvalue, median and mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx

from torch2mlx.kit import distinct, indexing
from torch2mlx.kit.distance import power_norm
from torch2mlx.kit.stubs import custom_function
from torch2mlx.kit.ties import order_of_equals


class Picked(NamedTuple):
    """Values and where they were, as torch's max, min, sort and topk answer."""

    values: mx.array
    indices: mx.array


def _rank(x: mx.array, dim: int, descending: bool) -> mx.array:
    """A stable order; descending keeps equal items in their order, as torch's stable sort."""
    if not descending:
        return mx.argsort(x, axis=dim)
    count = x.shape[dim]
    flipped = mx.take(x, mx.arange(count - 1, -1, -1), axis=dim)
    order = count - 1 - mx.argsort(flipped, axis=dim)
    return mx.take(order, mx.arange(count - 1, -1, -1), axis=dim)


def sort(x: mx.array, dim: int = -1, descending: bool = False) -> Picked:
    """torch.sort(stable=True): values and indices."""
    order = mx.stop_gradient(_rank(x, dim, descending))
    return Picked(mx.take_along_axis(x, order, axis=dim), order.astype(mx.int64))


def topk(x: mx.array, k: int, dim: int = -1, largest: bool = True) -> Picked:
    """torch.topk, sorted: values and indices.

    Of equal items the first ones come first; of a row in which all are equal, those that torch
    takes on the CPU.
    """
    k = int(k)  # torch takes an array of one item too
    order = _rank(x, dim, largest)
    cut = [slice(None)] * x.ndim
    cut[dim] = slice(k)
    equals = mx.array(order_of_equals(x.shape[dim], k), dtype=order.dtype)
    equals = equals.reshape([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
    first = mx.take(x, mx.array([0]), axis=dim)
    alike = mx.all(x == first, axis=dim, keepdims=True)
    order = mx.stop_gradient(mx.where(alike, equals, order[tuple(cut)]))
    return Picked(mx.take_along_axis(x, order, axis=dim), order.astype(mx.int64))


def likeliest(x: mx.array, k: int) -> Picked:
    """What `topk` answers, sooner, for probabilities: the k largest items of the last axis of an
    array of floats whose rows have no NaN, or nothing else; and where they are, in uint32."""
    order = mx.argsort(-x, axis=-1)[..., :k]
    equals = order_of_equals(x.shape[-1], k)
    if equals != tuple(range(k)):
        alike = mx.max(x, axis=-1, keepdims=True) == mx.min(x, axis=-1, keepdims=True)
        order = mx.where(alike, mx.array(equals, dtype=order.dtype), order)
    order = mx.stop_gradient(order)
    return Picked(mx.take_along_axis(x, order, axis=-1), order)


def kthvalue(x: mx.array, k: int, dim: int = -1, keepdim: bool = False):
    """torch.kthvalue: the k-th smallest (from 1), and where it is."""
    values, order = sort(x, dim)
    cut = [slice(None)] * x.ndim
    cut[dim] = slice(k - 1, k)
    found = values[tuple(cut)], order[tuple(cut)]
    return found if keepdim else tuple(part.squeeze(dim) for part in found)


def median(x: mx.array, dim: int | None = None, keepdim: bool = False):
    """torch.median: the lower of two middle values; with `dim`, and where it is. A row with a NaN
    has the first of its NaNs."""
    if dim is None:
        return middle(x)
    value, place = kthvalue(x, (x.shape[dim] - 1) // 2 + 1, dim, keepdim)
    if not mx.issubdtype(x.dtype, mx.floating):
        return value, place
    missing = mx.stop_gradient(mx.isnan(x))
    first = mx.argmax(missing, axis=dim, keepdims=True)
    broken = mx.any(missing, axis=dim, keepdims=True)
    there = mx.take_along_axis(x, first, axis=dim)
    if not keepdim:
        first, broken, there = (part.squeeze(dim) for part in (first, broken, there))
    return mx.where(broken, there, value), mx.where(broken, first, place)


def middle(x: mx.array, without_nan: bool = False) -> mx.array:
    """The lower of two middle values of all items, NaN where one is and they are not left out;
    equal items share its gradient."""

    @custom_function
    def found(x):
        row = mx.sort(x.reshape(-1))
        count = x.size - mx.sum(mx.isnan(row))
        if without_nan:
            return row[mx.maximum(count - 1, 0) // 2]
        return row[mx.where(count < x.size, x.size - 1, (x.size - 1) // 2)]

    @found.vjp
    def found_vjp(x, cotangent, output):
        same = ((x == output) | (mx.isnan(x) & mx.isnan(output))).astype(x.dtype)
        return cotangent * same / mx.sum(same)

    return found(x)


def mode(x: mx.array, dim: int = -1, keepdim: bool = False) -> Picked:
    """torch.mode: the most frequent values, of several the smallest, and their last places."""
    order = mx.argsort(mx.stop_gradient(x), axis=dim)
    ordered = mx.moveaxis(mx.take_along_axis(x, order, axis=dim), dim, -1)
    place = mx.broadcast_to(mx.arange(ordered.shape[-1]), ordered.shape)
    starts = mx.concatenate([place[..., :1] == 0, ordered[..., 1:] != ordered[..., :-1]], axis=-1)
    run = place - mx.cummax(mx.where(starts, place, 0), axis=-1)
    best = mx.argmax(mx.stop_gradient(run), axis=-1, keepdims=True)
    places = mx.take_along_axis(order, mx.moveaxis(best, -1, dim), axis=dim)
    values = mx.take_along_axis(x, places, axis=dim)
    if not keepdim:
        values, places = values.squeeze(dim), places.squeeze(dim)
    return Picked(values, places.astype(mx.int64))


def unique(x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """torch.unique, sorted, with inverse and counts; reads the number of values."""
    return distinct.unique(x, return_inverse=True, return_counts=True)


def bucketize(x: mx.array, boundaries: mx.array, right: bool = False) -> mx.array:
    """torch.bucketize: how many boundaries lie below each item (with `right`, at it too)."""
    return mx.searchsorted(boundaries, x, side="right" if right else "left")


def searchsorted(sorted_sequence: mx.array, values: mx.array, right: bool = False) -> mx.array:
    """torch.searchsorted: where values (..., M) belong in sorted rows (..., N) of the same leading
    axes, or in one row (N,); before equal items, with `right` behind them."""
    if sorted_sequence.ndim == 1:
        return bucketize(values, sorted_sequence, right)
    if sorted_sequence.shape[:-1] != values.shape[:-1]:
        found = f"{tuple(sorted_sequence.shape)} and {tuple(values.shape)}"
        raise ValueError(f"searchsorted: {found}: all axes but the last have to be equal")
    count = sorted_sequence.shape[-1]
    start, end = mx.zeros(values.shape, mx.int32), mx.full(values.shape, count, mx.int32)
    for _ in range(count.bit_length()):  # torch's own search, also in a row that is not sorted
        middle = (start + end) // 2
        item = mx.take_along_axis(sorted_sequence, mx.minimum(middle, count - 1), axis=-1)
        above = (item > values if right else item >= values) | (start >= end)
        start, end = (
            mx.where(above, start, middle + 1),
            mx.where(above, mx.minimum(middle, end), end),
        )
    return start


def renorm(x: mx.array, p: float, dim: int, maxnorm: float) -> mx.array:
    """torch.renorm: slices along `dim` whose p-norm is above maxnorm are scaled down to it."""
    axes = tuple(axis for axis in range(x.ndim) if axis != dim % x.ndim)
    norm = power_norm(x, p, axes, True)
    return x * mx.where(norm > maxnorm, maxnorm / (norm + 1e-7), 1)


def _running(x: mx.array, dim: int, better) -> Picked:
    x = mx.moveaxis(x, dim, 0) if x.ndim else x.reshape(1)
    best, where = x[0], mx.zeros(x.shape[1:], mx.int64)
    values, places = [best], [where]
    for i in range(1, x.shape[0]):
        wins = better(x[i], best)
        best, where = mx.where(wins, x[i], best), mx.where(wins, i, where)
        values.append(best)
        places.append(where)
    return Picked(mx.moveaxis(mx.stack(values), 0, dim), mx.moveaxis(mx.stack(places), 0, dim))


def cummax(x: mx.array, dim: int) -> Picked:
    """torch.cummax: running maxima and where they are; of ties the last, from a NaN on NaNs."""
    return _running(x, dim, lambda new, best: (new >= best) | mx.isnan(new))


def cummin(x: mx.array, dim: int) -> Picked:
    """torch.cummin: running minima and where they are; of ties the last, from a NaN on NaNs."""
    return _running(x, dim, lambda new, best: (new <= best) | mx.isnan(new))


def histc(x: mx.array, bins: int = 100, low: float = 0, high: float = 0) -> mx.array:
    """torch.histc: how many of x fall into each of `bins` between low and high, x's dtype."""
    start: Any = mx.min(x) if low == high else low
    end: Any = mx.max(x) if low == high else high
    place = mx.floor((x - start) * (bins / (end - start))).astype(mx.int32)
    place = mx.where(x == end, bins - 1, place).reshape(-1)
    inside = ((x >= start) & (x <= end)).reshape(-1)
    found = (place[:, None] == mx.arange(bins)) & inside[:, None]
    return mx.sum(found, axis=0).astype(x.dtype)


def quantile(
    x: mx.array,
    q: mx.array,
    dim: int | None = None,
    keepdim: bool = False,
    interpolation: str = "linear",
    ignore_nan: bool = False,
) -> mx.array:
    """torch.quantile: q (K,) puts its axis first; `interpolation` is "linear", "lower", "higher",
    "nearest" or "midpoint". NaN in a row gives NaN, unless it is left out, as nanquantile does."""
    flat = x.reshape(-1) if dim is None else mx.moveaxis(x, dim, -1)
    row, missing = mx.sort(flat, axis=-1), mx.isnan(flat)  # NaNs come last
    last = mx.full(row.shape[:-1], row.shape[-1] - 1)
    if ignore_nan:
        last = mx.maximum(last - mx.sum(missing.astype(mx.int32), axis=-1), 0)
    place = q.reshape(-1) * last[..., None].astype(q.dtype)
    found = mx.moveaxis(_between(row, place, last[..., None], interpolation), -1, 0)
    nothing = mx.all(missing, axis=-1) if ignore_nan else mx.any(missing, axis=-1)
    found = mx.where(nothing, mx.nan, found)
    if keepdim:
        shape = [1 if dim is None or a == dim % x.ndim else n for a, n in enumerate(x.shape)]
        found = found.reshape(-1, *shape)
    return found if q.ndim else found[0]


def _between(row: mx.array, place: mx.array, last: mx.array, interpolation: str) -> mx.array:
    """Items of sorted rows at places that need not be whole."""
    if interpolation not in ("linear", "lower", "higher", "nearest", "midpoint"):
        known = "linear, lower, higher, nearest or midpoint"
        raise ValueError(f"interpolation={interpolation!r}: choose {known}")
    rounded = {"lower": mx.floor, "higher": mx.ceil, "nearest": mx.round}.get(interpolation)
    low = mx.floor(place) if rounded is None else rounded(place)
    part = mx.full(place.shape, 0.5) if interpolation == "midpoint" else place - low
    here = low.astype(mx.int32)
    below = mx.take_along_axis(row, here, axis=-1)
    if rounded is not None:
        return below
    ends = mx.where(place == low, here, mx.minimum(here + 1, last))
    return below + (mx.take_along_axis(row, ends, axis=-1) - below) * part


#: Euclid's algorithm takes at most this many steps for 64-bit numbers (Lamé: Fibonacci numbers).
_STEPS = {1: 14, 2: 26, 4: 48, 8: 93}


def gcd(x: mx.array, y: mx.array) -> mx.array:
    """torch.gcd: the greatest common divisor, never negative."""
    x, y = mx.broadcast_arrays(mx.abs(x), mx.abs(y))
    for _ in range(_STEPS[x.dtype.size]):
        rest = mx.remainder(x, mx.maximum(y, 1))
        x, y = mx.where(y > 0, y, x), mx.where(y > 0, rest, y)
    return x


def lcm(x: mx.array, y: mx.array) -> mx.array:
    """torch.lcm: the least common multiple, never negative."""
    divisor = mx.maximum(gcd(x, y), 1)
    return mx.abs(x // divisor * y)


def bincount(x: mx.array, weights: mx.array | None = None, minlength: int = 0) -> mx.array:
    """torch.bincount: how often each number from 0 on occurs, or the sum of its weights; reads the
    largest."""
    largest: Any = mx.max(x).item() if x.size else -1
    count = max(int(largest) + 1, minlength)
    if weights is not None:
        empty = mx.zeros((count,), weights.dtype)
        return indexing.accumulate(empty, (x,), weights) if x.size else empty
    # counted in 32 bits, which hold the size of any array: GPUs add no integers of 64
    counts = mx.zeros((count,), mx.int32)
    return (counts.at[x].add(1) if x.size else counts).astype(mx.int64)
