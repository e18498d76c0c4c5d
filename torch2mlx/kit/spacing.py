"""Evenly spaced numbers that are torch's to the last bit, which decides where one is cut to an
integer, or compared with one: mx.linspace and mx.arange round in other places.

The numbers are made on the host, in float64: they depend on no array.
"""

from __future__ import annotations

import math
import platform
from typing import Any

import mlx.core as mx
import numpy as np

#: Bytes of the numbers that torch makes at once: of NEON, or of AVX2.
_AT_ONCE = 16 if platform.machine() in ("arm64", "aarch64") else 32
_HALVES = (mx.float16, mx.bfloat16)


def line(start: float, end: float, steps: int, dtype: mx.Dtype) -> mx.array:
    """`steps` numbers from start to end, which torch makes from both ends to the middle."""
    if steps < 2:
        return mx.array([start] * steps, dtype)
    if dtype in _HALVES:
        return _halves(start, end, steps, dtype)
    places, whole = np.arange(steps), mx.issubdtype(dtype, mx.integer)
    kind: Any = np.int64 if whole else np.float32
    first, last = kind(start), kind(end)
    step = (last - first) / (np.float64 if whole else kind)(steps - 1)
    rising, falling = (_fused(first, step, places), _fused(last, -step, steps - 1 - places))
    numbers = np.where(places < steps // 2, rising, falling)
    return mx.array(numbers.astype(kind)).astype(dtype)


def _fused(first: Any, step: Any, places: np.ndarray) -> np.ndarray:
    """first + step * places in float64, rounded once, as processors do it."""
    first, step = np.asarray(first, np.float64), float(step)
    high = step * 134217729.0 - (
        step * 134217729.0 - step
    )  # half of the digits: products are exact
    product, rest = high * places, (step - high) * places
    total = first + product
    back = total - first
    return total + ((first - (total - back)) + (product - back) + rest)


def _halves(start: float, end: float, steps: int, dtype: mx.Dtype) -> mx.array:
    """The same in half precision, where each operation rounds."""
    first, last = mx.array(start, dtype), mx.array(end, dtype)
    step = (last - first) / mx.array(steps - 1, dtype)
    places = mx.arange(steps)
    rising = first + step * places.astype(dtype)
    falling = last - step * (steps - 1 - places).astype(dtype)
    return mx.where(places < steps // 2, rising, falling)


def counted(start: float, end: float, step: float, dtype: mx.Dtype) -> mx.array:
    """Numbers from start up to end, without it. torch makes as many at once as fit into a register:
    it rounds the first of them, and adds to that."""
    count = max(math.ceil((end - start) / step), 0)
    if dtype in _HALVES:
        start, step = float(np.float32(start)), float(np.float32(step))
    places, lanes = np.arange(count), _AT_ONCE // dtype.size
    numbers = _fused(start, step, places)
    many = count - count % (2 * lanes)  # the rest is made one by one
    first = mx.array(numbers[:many:lanes].astype(np.float32)).astype(dtype).astype(mx.float32)
    numbers[:many] = _fused(np.repeat(np.array(first), lanes), step, places[:many] % lanes)
    return mx.array(numbers.astype(np.float32)).astype(dtype)


def plain(*numbers: Any) -> bool:
    """Whether all of these are numbers, and no arrays."""
    return all(isinstance(number, (int, float, np.number)) for number in numbers)
