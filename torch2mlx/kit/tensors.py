"""What torch's tensor methods do beyond the functions of mlx.core of the same name."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit import distinct, division, moments, sorting, spacing, stubs
from torch2mlx.kit.distance import power_norm
from torch2mlx.kit.sorting import Picked


def largest(x: mx.array, dim: Any, keepdim: bool = False) -> Any:
    """torch.max along an axis: the values and their first places; of two arrays, item by item."""
    if isinstance(dim, mx.array):
        return mx.maximum(x, dim)
    places = mx.stop_gradient(mx.argmax(x, axis=dim, keepdims=True))
    return _picked(x, places, dim, keepdim)


def smallest(x: mx.array, dim: Any, keepdim: bool = False) -> Any:
    """torch.min along an axis: the values and their first places; of two arrays, item by item."""
    if isinstance(dim, mx.array):
        return mx.minimum(x, dim)
    places = mx.stop_gradient(mx.argmin(x, axis=dim, keepdims=True))
    return _picked(x, places, dim, keepdim)


def _picked(x: mx.array, places: mx.array, dim: int, keepdim: bool) -> Picked:
    values = mx.take_along_axis(x, places, axis=dim)
    if not keepdim:
        values, places = values.squeeze(dim), places.squeeze(dim)
    return Picked(values, places.astype(mx.int64))


def argmax(x: mx.array, dim: int | None = None, keepdim: bool = False) -> mx.array:
    """torch.argmax: int64, without a gradient (MLX answers uint32, and asks indices for one)."""
    return mx.stop_gradient(mx.argmax(x, axis=dim, keepdims=keepdim)).astype(mx.int64)


def argmin(x: mx.array, dim: int | None = None, keepdim: bool = False) -> mx.array:
    """torch.argmin: int64, without a gradient."""
    return mx.stop_gradient(mx.argmin(x, axis=dim, keepdims=keepdim)).astype(mx.int64)


def argsort(x: mx.array, dim: int = -1, descending: bool = False) -> mx.array:
    """torch.argsort."""
    return sorting.sort(x, dim, descending)[1]


def divide(x: Any, y: Any, rounding_mode: str | None = None) -> mx.array:
    """torch.div: rounded down for "floor", to zero for "trunc"; whole numbers stay whole then."""
    if rounding_mode is None:
        return x / y
    if _is_whole(x) and _is_whole(y):
        function = division.whole_floor if rounding_mode == "floor" else division.whole_trunc
        return function(x, y)
    return division.floor_divide(x, y) if rounding_mode == "floor" else mx.trunc(x / y)


def _is_whole(x: Any) -> bool:
    """Whether a number or an array is of whole numbers."""
    return mx.issubdtype(x.dtype, mx.integer) if isinstance(x, mx.array) else isinstance(x, int)


def var(
    x: mx.array,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: int | None = None,
) -> mx.array:
    """torch.var: divided by N - 1 unless told otherwise."""
    ddof = int(unbiased) if correction is None else correction
    return moments.var(x, dim, keepdim, ddof)


def std(
    x: mx.array,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: int | None = None,
) -> mx.array:
    """torch.std: divided by N - 1 unless told otherwise."""
    ddof = int(unbiased) if correction is None else correction
    return moments.std(x, dim, keepdim, ddof)


def norm(x: mx.array, p: Any = 2, axis: Any = None, keepdims: bool = False) -> mx.array:
    """torch.norm: of all items, or along axes."""
    if p in ("fro", None):
        p = 2
    if axis is None:
        return power_norm(x.reshape(-1), p, 0)
    if isinstance(axis, int):
        return power_norm(x, p, axis, keepdims)
    stream = mx.cpu if p == "nuc" else None  # singular values: no kernel of the GPU's
    order = None if p == 2 else p
    return mx.linalg.norm(x, ord=order, axis=list(axis), keepdims=keepdims, stream=stream)


def expand(x: mx.array, *sizes: Any) -> mx.array:
    """torch's expand: -1 keeps a length."""
    wanted = tuple(sizes[0]) if isinstance(sizes[0], (tuple, list)) else sizes
    lead = len(wanted) - x.ndim
    shape = [x.shape[i - lead] if n == -1 else n for i, n in enumerate(wanted)]
    return mx.broadcast_to(x, shape)


def squeeze(x: mx.array, dim: Any) -> mx.array:
    """torch's squeeze of an axis: nothing happens when it is longer than 1."""
    axes = [dim] if isinstance(dim, int) else dim
    return mx.squeeze(x, [a % x.ndim for a in axes if x.shape[a] == 1])


def moveaxis(x: mx.array, source: Any, destination: Any) -> mx.array:
    """torch's movedim: one axis, or several."""
    if isinstance(source, int):
        return mx.moveaxis(x, source, destination)
    moved = {d % x.ndim: s % x.ndim for s, d in zip(source, destination, strict=True)}
    rest = iter(a for a in range(x.ndim) if a not in moved.values())
    return x.transpose(*(moved[i] if i in moved else next(rest) for i in range(x.ndim)))


def split(x: mx.array, split_size: int | Sequence[int], dim: int = 0) -> list[mx.array]:
    """torch's split: pieces of a size (the last may be shorter), or of several sizes."""
    length = x.shape[dim]
    if isinstance(split_size, int):
        return stubs.split(x, list(range(split_size, length, split_size)), axis=dim)
    ends, at = [], 0
    for size in split_size:
        at += size
        ends.append(at)
    return stubs.split(x, ends[:-1], axis=dim)


def chunk(x: mx.array, chunks: int, dim: int = 0) -> list[mx.array]:
    """torch's chunk: at most so many pieces, the last may be shorter."""
    return split(x, -(-x.shape[dim] // chunks), dim)


def unbind(x: mx.array, dim: int = 0) -> tuple[mx.array, ...]:
    """Slices along an axis, which goes."""
    return tuple(mx.take(x, i, axis=dim) for i in range(x.shape[dim]))


def narrow(x: mx.array, dim: int, start: int, length: int) -> mx.array:
    """torch's narrow: `length` items of an axis."""
    place = (*[slice(None)] * (dim % x.ndim), slice(start, start + length))
    return x[place]


def repeat_interleave(x: mx.array, repeats: Any, dim: int | None = None) -> mx.array:
    """torch.repeat_interleave: every item as often as told; an array of counts is read on the
    host."""
    if not isinstance(repeats, mx.array):
        return mx.repeat(x, repeats, axis=dim)
    x, axis = (x.reshape(-1), 0) if dim is None else (x, dim)
    counts = np.broadcast_to(np.array(repeats), (x.shape[axis],))
    return mx.take(x, mx.array(np.repeat(np.arange(len(counts)), counts)), axis=axis)


def hstack(tensors: Sequence[mx.array]) -> mx.array:
    """torch.hstack."""
    return mx.concatenate(list(tensors), axis=0 if tensors[0].ndim < 2 else 1)


def vstack(tensors: Sequence[mx.array]) -> mx.array:
    """torch.vstack."""
    rows: list[Any] = [mx.atleast_2d(x) for x in tensors]
    return mx.concatenate(rows, axis=0)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[mx.array, ...]:
    """torch.meshgrid: "ij" unless told otherwise."""
    given = tensors[0] if isinstance(tensors[0], (tuple, list)) else tensors
    return mx.meshgrid(*given, indexing=indexing)


def shape(size: Any) -> tuple[int, ...]:
    """A size, given as a number or as several, as a tuple."""
    return (size,) if isinstance(size, int) else tuple(size)


def tensor(data: Any, dtype: Any = None) -> mx.array:
    """torch.tensor of data that may hold numbers and arrays of numpy, or be a deque or a range."""
    if not hasattr(data, "__array__") and isinstance(data, Iterable):
        data = _together(list(data))
    return mx.array(data) if dtype is None else mx.array(data, dtype=dtype)


def _together(items: list[Any]) -> Any:
    """Nested lists as numpy reads them; arrays of MLX, which numpy would copy, are stacked, those
    of one item as the number that torch takes them for."""
    lists = (list, tuple, deque, range)
    made = [_together(list(i)) if isinstance(i, lists) else _single(i) for i in items]
    if any(isinstance(item, mx.array) for item in made):
        return mx.stack([mx.array(item) for item in made])
    return np.asarray(made) if made else made


def _single(item: Any) -> Any:
    """An array of one item as a number."""
    return item.reshape(()) if isinstance(item, mx.array) and item.size == 1 else item


def options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of keyword arguments for making tensors what MLX takes: the dtype; it has one memory."""
    return {"dtype": given["dtype"]} if given.get("dtype") is not None else {}


def linspace(start: Any, end: Any, steps: int, dtype: Any = None) -> mx.array:
    """torch.linspace: float32 unless told otherwise; of arrays, which get no gradient."""
    dtype = dtype or mx.float32
    if spacing.plain(start, end):
        return spacing.line(start, end, steps, dtype)
    places, step = mx.arange(steps), (end - start) / max(steps - 1, 1)
    rising, falling = start + step * places, end - step * (steps - 1 - places)
    return mx.stop_gradient(mx.where(places < max(steps // 2, 1), rising, falling)).astype(dtype)


def arange(*bounds: Any, dtype: Any = None) -> mx.array:
    """torch.arange: int64 of integers, float32 of floats."""
    whole = all(isinstance(b, int) for b in bounds)
    dtype = dtype or (mx.int64 if whole else mx.float32)
    if not whole and spacing.plain(*bounds) and mx.issubdtype(dtype, mx.floating):
        start, end, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
        return spacing.counted(start, end, step, dtype)
    made: Callable[..., mx.array] = mx.arange
    return made(*bounds, dtype=dtype)


def randint(*bounds: Any, dtype: Any = None) -> mx.array:
    """torch.randint(low, high, size); low is 0 when it is left out."""
    low, high, size = bounds if len(bounds) == 3 else (0, *bounds)
    return mx.random.randint(low, high, tuple(size)).astype(dtype or mx.int64)


_DTYPES = {"float": "float32", "double": "float64", "half": "float16", "long": "int64"}
_DTYPES |= {"int": "int32", "short": "int16", "bool": "bool_", "cfloat": "complex64"}


def dtype(name: str) -> mx.Dtype:
    """The dtype of torch's name for it. Raises ValueError for what MLX has no dtype of."""
    found = getattr(mx, _DTYPES.get(name, name), None)
    if not isinstance(found, mx.Dtype):
        raise ValueError(f"torch.{name}: MLX has no such dtype")
    return found


def unique(x: mx.array, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """torch.unique, sorted: the values, or a tuple of them, the inverse and the counts."""
    return distinct.unique(x, return_inverse, return_counts)


def normal(mean: Any, std: Any = 1.0, size: Any = None) -> mx.array:
    """torch.normal: of arrays, or of a size."""
    shape = size if size is not None else getattr(mean, "shape", None) or std.shape
    return mx.random.normal(tuple(shape)) * std + mean


def multinomial(weights: mx.array, num_samples: int, replacement: bool = False) -> mx.array:
    """torch.multinomial: places drawn in proportion to weights."""
    logits = mx.log(weights)
    if replacement:
        return mx.random.categorical(logits, num_samples=num_samples)
    keys = logits + mx.random.gumbel(logits.shape)
    return mx.argsort(-keys, axis=-1)[..., :num_samples]


def one_hot(x: mx.array, num_classes: int = -1) -> mx.array:
    """torch.nn.functional.one_hot: int64."""
    last: Any = mx.max(x).item() if num_classes < 0 else num_classes - 1
    count = int(last) + 1
    return (x[..., None] == mx.arange(count)).astype(mx.int64)


def bincount(x: mx.array, minlength: int = 0) -> mx.array:
    """torch.bincount."""
    return sorting.bincount(x, None, minlength)


def assign(x: mx.array, value: Any) -> mx.array:
    """Gives an array, under all its names, the numbers of `value`, broadcast to its shape and cast
    to its dtype, and returns it: what `x.copy_(value)` does in torch."""
    x[...] = mx.broadcast_to(mx.array(value, x.dtype), x.shape)
    return x


def view_as_real(x: mx.array) -> mx.array:
    """(...) complex -> (..., 2)."""
    return mx.stack([mx.real(x), mx.imag(x)], axis=-1)


def view_as_complex(x: mx.array) -> mx.array:
    """(..., 2) -> (...) complex."""
    return x[..., 0] + 1j * x[..., 1]
