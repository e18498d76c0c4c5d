"""Reductions over runs of an axis: torch.segment_reduce and index_reduce."""

from __future__ import annotations

import mlx.core as mx

from torch2mlx.kit import indexing

#: What an empty segment holds, unless told otherwise.
_EMPTY = {"sum": 0.0, "mean": float("nan"), "max": -mx.inf, "min": mx.inf, "prod": 1.0}


def index_reduce(
    x: mx.array,
    dim: int,
    index: mx.array,
    source: mx.array,
    reduce: str,
    include_self: bool = True,
) -> mx.array:
    """torch.index_reduce: "prod", "mean", "amax" or "amin" of slices `source` at rows `index` of x.

    index: (K,), source: of x's shape but for K slices along `dim`.
    """
    shape = [-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)]
    whole = mx.broadcast_to(index.reshape(shape), source.shape)
    return indexing.scatter_reduce(x, dim, whole, source, reduce, include_self)


def _ends(lengths: mx.array | None, offsets: mx.array | None) -> tuple[mx.array, mx.array]:
    """Where segments begin and end, (..., segments)."""
    if lengths is not None:
        ends = mx.cumsum(lengths, axis=-1)
        return ends - lengths, ends
    if offsets is None:
        raise ValueError("lengths or offsets say where segments are: give one of them")
    return offsets[..., :-1], offsets[..., 1:]


def segment_reduce(
    data: mx.array,
    reduce: str,
    lengths: mx.array | None = None,
    offsets: mx.array | None = None,
    axis: int = 0,
    initial: float | None = None,
) -> mx.array:
    """torch.segment_reduce: "sum", "mean", "max", "min" or "prod" of runs of an axis.

    data: (..., L, *rest) with L at `axis`; lengths: (..., S), or offsets: (..., S + 1), which are
    where runs begin and the last one ends. Returns (..., S, *rest) in data's dtype. Runs are
    combined with `initial`; without it the empty ones hold 0, NaN, -inf, inf or 1.
    Raises ValueError for another reduction.
    """
    if reduce not in _EMPTY:
        raise ValueError(f"reduce={reduce!r}: choose one of {', '.join(_EMPTY)}")
    axis %= data.ndim
    starts, ends = _ends(lengths, offsets)
    count = starts.shape[-1]
    place = mx.arange(data.shape[axis])[:, None]
    inside = (place >= starts[..., None, :]) & (place < ends[..., None, :])
    segment = mx.where(mx.any(inside, axis=-1), mx.argmax(inside, axis=-1), count)
    index = segment.reshape(*segment.shape, *[1] * (data.ndim - segment.ndim))
    index = mx.broadcast_to(index, data.shape).astype(mx.int32)
    empty = _EMPTY[reduce] if initial is None else initial
    start = {"mean": "sum", "sum": "sum"}.get(reduce, reduce)
    shape = (*data.shape[:axis], count + 1, *data.shape[axis + 1 :])
    blank = mx.full(shape, _EMPTY[start] if initial is None else initial, data.dtype)
    names = {"max": "amax", "min": "amin", "prod": "prod"}
    made = indexing.scatter_reduce(blank, axis, index, data, names.get(reduce, "sum"))
    kept = (*[slice(None)] * axis, slice(count))
    made = made[kept]
    if reduce != "mean":
        return made
    sizes = (ends - starts).reshape(*starts.shape, *[1] * (data.ndim - starts.ndim))
    return mx.where(sizes > 0, made / mx.maximum(sizes, 1).astype(data.dtype), empty)
