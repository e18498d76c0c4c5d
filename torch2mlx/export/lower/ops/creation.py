"""Arrays out of nothing: zeros, ranges, grids, windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse, mx_dtype
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers


def _dtyped(b: Builder) -> tuple[Any, ...]:
    return () if b.dtype in (None, "float32") else (mx_dtype(b.dtype),)


def _filled(name: str, *names: str) -> None:
    def function(b: Builder, size: Sequence[Any], **_: Any) -> Node:
        return b.call(f"mx.{name}", tuple(size), *_dtyped(b))

    function.__name__ = names[0]
    lowers(*(f"aten::{n}" for n in names))(function)


_filled("zeros", "zeros", "empty", "new_zeros", "new_empty", "empty_permuted")
_filled("ones", "ones", "new_ones")
_filled("zeros", "empty_strided", "new_empty_strided")


def _filled_like(name: str, *names: str) -> None:
    def function(b: Builder, self: Node, **_: Any) -> Node:
        if b.dtype in (None, self.dtype):
            return b.call(f"mx.{name}_like", self)
        return b.call(f"mx.{name}", b.dims(self), mx_dtype(b.dtype))

    function.__name__ = names[0]
    lowers(*(f"aten::{n}" for n in names))(function)


_filled_like("zeros", "zeros_like", "empty_like", "zero")
_filled_like("ones", "ones_like")


@lowers("aten::full", "aten::new_full")
def full(b: Builder, size: Sequence[Any], fill_value: Any, **_: Any) -> Node:
    """One number everywhere."""
    if not size and not isinstance(fill_value, Node):
        return b.array(fill_value, b.dtype)
    if isinstance(fill_value, Node):  # mx.full doubles the gradient of its value
        value = b.cast(fill_value, b.dtype) if b.dtype else fill_value
        return b.call("mx.broadcast_to", value, tuple(size))
    return b.call("mx.full", tuple(size), fill_value, *_always(b, fill_value))


def _always(b: Builder, value: Any) -> tuple[Any, ...]:
    if b.dtype is None or (b.dtype == "float32" and isinstance(value, float)):
        return ()
    return (mx_dtype(b.dtype),)


@lowers("aten::full_like", "aten::fill")
def full_like(b: Builder, self: Node, fill_value: Any = None, value: Any = None, **_: Any) -> Node:
    """One number everywhere, in the shape of another array."""
    filled = value if fill_value is None else fill_value
    if isinstance(filled, Node) and filled.is_array and filled.ndim:
        filled = b.reshape(filled, ())
    if isinstance(filled, Node):
        return full(b, b.dims(self), filled)
    return b.call("mx.full", b.dims(self), filled, *_always(b, filled))


@lowers("aten::scalar_tensor")
def scalar_tensor(b: Builder, s: Any, **_: Any) -> Node:
    """A number as an array without axes."""
    return b.array(s, b.dtype)


@lowers("aten::arange")
def arange(b: Builder, end: Any, start: Any = 0, step: Any = 1, **_: Any) -> Node:
    """Numbers from start up to end, without it."""
    dtype = mx_dtype(b.dtype or "float32")
    floats = "float" in str(b.dtype or "float32")
    if floats and (_fraction(start) or _fraction(step)):  # other sums would be other numbers
        start, end, step = (float(v) if isinstance(v, int) else v for v in (start, end, step))
        return b.call("kit.tensors.arange", start, end, step, **_other(b))
    if isinstance(step, (int, float)) and step == 1:
        if isinstance(start, (int, float)) and start == 0:
            return b.call("mx.arange", end, dtype=dtype)
        return b.call("mx.arange", start, end, dtype=dtype)
    return b.call("mx.arange", start, end, step, dtype=dtype)


def _fraction(value: Any) -> bool:
    """Whether a number may have a fractional part."""
    if isinstance(value, Node):
        return isinstance(value.value, float)
    return isinstance(value, float) and not value.is_integer()


@lowers("aten::linspace")
def linspace(b: Builder, start: Any, end: Any, steps: int, **_: Any) -> Node:
    """Evenly spaced numbers, both ends included."""
    start, end = (b.reshape(v, ()) if _array(v) else v for v in (start, end))
    return b.call("kit.tensors.linspace", start, end, steps, **_other(b))


def _other(b: Builder) -> dict[str, Any]:
    return {} if b.dtype in (None, "float32") else {"dtype": mx_dtype(b.dtype)}


def _array(value: Any) -> bool:
    return isinstance(value, Node) and value.is_array


@lowers("torch2mlx_evenly::line")
def line(b: Builder, start: Any, end: Any, steps: Any, **_: Any) -> Node:
    """The same with as many steps as an input is long."""
    start, end = (int(n) if isinstance(n, float) and n.is_integer() else n for n in (start, end))
    return linspace(b, start, end, steps)


@lowers("aten::logspace")
def logspace(b: Builder, start: Any, end: Any, steps: int, base: float = 10.0, **_: Any) -> Node:
    """Powers of a base, evenly spaced in their exponents."""
    return b.call("operator.pow", base, linspace(b, start, end, steps))


@lowers("aten::eye")
def eye(b: Builder, n: int, m: int | None = None, **_: Any) -> Node:
    """Ones on the diagonal."""
    dtype = b.dtype or "float32"
    if dtype == "bool":
        return b.cast(b.call("mx.eye", n, *(() if m is None else (m,))), "bool")
    return b.call("mx.eye", n, *(() if m is None else (m,)), dtype=mx_dtype(dtype))


@lowers("aten::meshgrid")
def meshgrid(b: Builder, tensors: Sequence[Node], indexing: str = "ij") -> Node:
    """Coordinates of a grid."""
    rows = tuple(b.reshape(x, (1,)) if x.ndim == 0 else x for x in tensors)
    return b.call("mx.meshgrid", *rows, indexing=indexing)


@lowers("aten::cartesian_prod")
def cartesian_prod(b: Builder, tensors: Sequence[Node]) -> Node:
    """All combinations, one in a row."""
    if len(tensors) == 1:
        return tensors[0]
    grid = b.items(b.call("mx.meshgrid", *tensors, indexing="ij"))
    return b.call("mx.stack", tuple(b.reshape(x, (-1,)) for x in grid), axis=1)


@lowers("aten::one_hot")
def one_hot(b: Builder, self: Node, num_classes: int = -1) -> Node:
    """A one at the index of each class."""
    if num_classes == -1:
        raise Refuse("without num_classes: the number of classes would depend on the data")
    classes = b.call("mx.arange", num_classes)
    same = b.call("operator.eq", b.call("mx.expand_dims", self, -1), classes)
    return b.cast(same, "int64")


def _triangle(name: str, upper: dict[str, bool]) -> None:
    def function(b: Builder, row: int, col: int, offset: int = 0, **_: Any) -> Node:
        if any(isinstance(length, Node) for length in (row, col)):
            raise Refuse("with sizes that are not constant")
        more = () if offset == 0 else (offset,)
        found = b.call("kit.arrangements.triangle", row, col, *more, **upper)
        return b.cast(found, b.dtype or "int64")

    function.__name__ = name
    lowers(f"aten::{name}")(function)


_triangle("tril_indices", {})
_triangle("triu_indices", {"upper": True})


@lowers("aten::vander")
def vander(b: Builder, x: Node, N: int | None = None, increasing: bool = False) -> Node:
    """Powers of each number, as columns, the highest first unless they are increasing."""
    if increasing:
        return linalg_vander(b, x, N)
    return b.call("kit.matrices.vander", x, *(() if N is None else (N,)))


@lowers("aten::linalg_vander")
def linalg_vander(b: Builder, x: Node, N: int | None = None) -> Node:
    """Powers of each number, as columns."""
    count = x.shape[-1] if N is None else N
    powers = b.call("mx.arange", count)
    return b.call("operator.pow", b.call("mx.expand_dims", x, -1), powers)


def _cosines(name: str, *weights: float) -> None:
    def function(b: Builder, window_length: int, periodic: bool = True, **_: Any) -> Any:
        steps = b.call("mx.arange", window_length, dtype=mx_dtype("float32"))
        total = window_length if periodic else window_length - 1
        angle = b.call("operator.mul", steps, 2 * math.pi / max(total, 1))
        value: Any = weights[0]
        for i, weight in enumerate(weights[1:], 1):
            wave = b.call("mx.cos", b.call("operator.mul", angle, i) if i > 1 else angle)
            value = b.call("operator.add", value, b.call("operator.mul", weight, wave))
        return value

    function.__name__ = name
    lowers(f"aten::{name}")(function)


_cosines("hann_window", 0.5, -0.5)
_cosines("hamming_window", 0.54, -0.46)
_cosines("blackman_window", 0.42, -0.5, 0.08)


@lowers("aten::kaiser_window")
def kaiser_window(
    b: Builder, window_length: int, periodic: bool = True, beta: float = 12.0, **_: Any
) -> Node:
    """Kaiser's window, by the Bessel function i0."""
    if isinstance(window_length, Node):
        raise Refuse("with a length that is not constant")
    return b.call("kit.tapers.kaiser_window", window_length, periodic, float(beta))
