"""Tensors of files whose stored items are not their values: other byte order, lazy conj and neg."""

from __future__ import annotations

import numpy as np

from torch2mlx import _core
from torch2mlx.types import ITEM_BYTES

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_SIGNED = ("float64", "float32", "float16", "bfloat16", "complex64")
_INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")


def problem(value: _core.Unresolved) -> str | None:
    """Why the values cannot be computed exactly, or None."""
    if value.neg and value.tensor.dtype not in (*_SIGNED, *_INTEGERS):
        return f"is lazily negated, which torch does not do with {value.tensor.dtype}"
    return None


def resolve(value: _core.Unresolved) -> _core.Tensor:
    """The values in new memory, bit for bit what torch computes when it uses them."""
    raw, shape, dtype = value.tensor, value.tensor.shape, value.tensor.dtype
    flat = np.array(np.asarray(raw.dense())).reshape(-1).view(_BITS[ITEM_BYTES[dtype]])
    number = flat.view(np.uint32) if dtype == "complex64" else flat
    if value.swapped:
        number.byteswap(inplace=True)
    sign = number.dtype.type(1 << (8 * number.itemsize - 1))
    if value.conj and dtype == "complex64":
        number[1::2] ^= sign
    if value.neg and dtype in _INTEGERS:
        np.subtract(0, number, out=number)
    elif value.neg:
        number ^= sign
    return _core.from_buffer(flat.reshape(shape), dtype)
