"""torch's older tensor types: `FloatTensor(2, 3)` takes sizes, `FloatTensor([2, 3])` data.

They are classes in torch, so scripts hold them in variables, ask isinstance and cast with them.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np


class _Typed(type):
    """The class of these types: calling one gives an array, which is one of its instances."""

    dtype: mx.Dtype

    def __call__(cls, *given: Any) -> mx.array:
        """An array of zeros of some sizes (torch leaves what was in memory), or of some data."""
        if not given:
            return mx.zeros((0,), cls.dtype)
        if all(_is_size(size) for size in given):
            return mx.zeros(tuple(int(size) for size in given), cls.dtype)
        if len(given) > 1:
            raise TypeError(f"{cls.__name__} takes sizes or one piece of data, not {given!r:.80}")
        data = given[0]
        if isinstance(data, tuple) and all(_is_size(size) for size in data):
            raise TypeError(
                f"{cls.__name__}({data!r:.80}) is a shape or data: give a shape as *sizes, "
                "data as a list"
            )
        if isinstance(data, (list, tuple, range)):
            data = _plain(data)
        return mx.array(data).astype(cls.dtype)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, mx.array) and value.dtype == cls.dtype


class _Any(_Typed):
    """The class of the type that every array is of."""

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, mx.array)


class Tensor(metaclass=_Any):
    """torch.Tensor as a value: makes and casts to float32; arrays of all kinds are instances."""

    dtype = mx.float32


class FloatTensor(metaclass=_Typed):
    """float32; MLX's kernels have no float64, so torch.DoubleTensor is this too."""

    dtype = mx.float32


class HalfTensor(metaclass=_Typed):
    """float16."""

    dtype = mx.float16


class BFloat16Tensor(metaclass=_Typed):
    """bfloat16."""

    dtype = mx.bfloat16


class LongTensor(metaclass=_Typed):
    """int64."""

    dtype = mx.int64


class IntTensor(metaclass=_Typed):
    """int32."""

    dtype = mx.int32


class ShortTensor(metaclass=_Typed):
    """int16."""

    dtype = mx.int16


class CharTensor(metaclass=_Typed):
    """int8."""

    dtype = mx.int8


class ByteTensor(metaclass=_Typed):
    """uint8."""

    dtype = mx.uint8


class BoolTensor(metaclass=_Typed):
    """bool."""

    dtype = mx.bool_


_BY_NAME = {
    kind.__name__: kind
    for kind in (
        FloatTensor,
        HalfTensor,
        BFloat16Tensor,
        LongTensor,
        IntTensor,
        ShortTensor,
        CharTensor,
        ByteTensor,
        BoolTensor,
    )
}
_BY_NAME["DoubleTensor"] = _BY_NAME["Tensor"] = FloatTensor


def cast(array: Any, kind: Any) -> Any:
    """torch's `tensor.type(kind)`: a dtype, one of these types, or its name in torch; a module, as
    by `module.half()`, keeps what it casts its parameters to.

    Raises TypeError for anything else.
    """
    if isinstance(kind, str):
        kind = _BY_NAME.get(kind.rpartition(".")[2], kind)
    dtype = kind.dtype if isinstance(kind, _Typed) else kind
    if not isinstance(dtype, mx.Dtype):
        raise TypeError(f"{kind!r} is no tensor type")
    if isinstance(array, nn.Module):
        array.set_dtype(dtype)
        return array
    return array.astype(dtype)


def data(value: Any) -> Any:
    """torch's `value.data` of what may be an array, of which it is the numbers without a gradient,
    or another object, of which it is a field."""
    return mx.stop_gradient(value) if isinstance(value, mx.array) else value.data


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _plain(data: Any) -> Any:
    """Nested data with arrays and numbers of numpy in it as lists of numbers."""
    if isinstance(data, (mx.array, np.ndarray, np.generic)):
        return data.tolist()
    return [_plain(item) for item in data] if isinstance(data, (list, tuple, range)) else data
