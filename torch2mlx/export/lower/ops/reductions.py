"""Sums, means, extremes, norms, scans."""

from __future__ import annotations

import math
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse, is_float, mx_dtype
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.functions import as_float
from torch2mlx.export.lower.ops.registry import lowers


def axes_of(x: Node, dim: Any) -> Any:
    """axis= of MLX: a number, several, or None for all."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim) or x.ndim == 0:
        return None
    return dim if isinstance(dim, int) else dim[0] if len(dim) == 1 else tuple(dim)


def reduced(b: Builder, op: str, x: Node, dim: Any, keepdim: bool, **more: Any) -> Node:
    """A reduction over axes."""
    axis = axes_of(x, dim)
    options = {
        **({} if axis is None else {"axis": axis}),
        **({"keepdims": True} if keepdim else {}),
    }
    if keepdim and x.ndim == 0:
        options = {}
    return b.call(op, x, **options, **more)


@lowers("aten::sum")
def sum_(b: Builder, self: Node, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    """Sum; of integers and booleans as int64."""
    x = b.cast(self, b.dtype) if b.dtype and b.dtype != self.dtype else self
    return reduced(b, _staged("sum", x, dim), x, dim, keepdim)


#: From so many items on, sums are taken in blocks (see kit.moments).
_MANY = 1 << 15


def _staged(name: str, x: Node, dim: Any) -> str:
    """The function for a sum, mean or variance over few items, or over many."""
    axis = axes_of(x, dim)
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    many = is_float(x) and math.prod(x.shape[a] for a in axes) >= _MANY
    return f"kit.moments.{'total' if name == 'sum' else name}" if many else f"mx.{name}"


@lowers("aten::nansum")
def nansum(b: Builder, self: Node, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    """Sum without NaNs."""
    x = b.call("mx.where", b.call("mx.isnan", self), 0, self) if is_float(self) else self
    return sum_(b, x, dim, keepdim)


@lowers("aten::mean")
def mean(b: Builder, self: Node, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    """Mean."""
    x = b.cast(self, b.dtype) if b.dtype and b.dtype != self.dtype else self
    return reduced(b, _staged("mean", x, dim), x, dim, keepdim)


@lowers("aten::prod")
def prod(b: Builder, self: Node, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    """Product; of integers and booleans as int64."""
    x = b.cast(self, b.dtype) if b.dtype and b.dtype != self.dtype else self
    return reduced(b, "mx.prod", x, dim, keepdim)


def _with_correction(op: str, default: int) -> Any:
    def function(
        b: Builder,
        self: Node,
        dim: Any = None,
        unbiased: bool | None = None,
        correction: Any = None,
        keepdim: bool = False,
    ) -> Node:
        ddof = default if correction is None else correction
        if unbiased is not None:
            ddof = 1 if unbiased else 0
        called = "kit.moments.std" if op == "std" else _staged(op, self, dim)
        return reduced(b, called, self, dim, keepdim, **({"ddof": ddof} if ddof else {}))

    function.__name__ = op
    return function


lowers("aten::var")(_with_correction("var", 1))
lowers("aten::std")(_with_correction("std", 1))


def _pair(op: str) -> Any:
    spread = _with_correction(op, 1)

    def function(
        b: Builder,
        self: Node,
        dim: Any = None,
        unbiased: bool | None = None,
        correction: Any = None,
        keepdim: bool = False,
    ) -> tuple[Node, Node]:
        found = spread(b, self, dim, unbiased, correction, keepdim)
        return found, reduced(b, _staged("mean", self, dim), self, dim, keepdim)

    function.__name__ = f"{op}_mean"
    return function


lowers("aten::var_mean")(_pair("var"))
lowers("aten::std_mean")(_pair("std"))


def _logic(name: str) -> Any:
    def function(b: Builder, self: Node, dim: Any = None, keepdim: bool = False) -> Node:
        if isinstance(dim, (tuple, list)) and not dim and self.ndim:
            return b.cast(self, "bool")
        return reduced(b, f"mx.{name}", self, dim, keepdim)

    function.__name__ = name
    return function


lowers("aten::any")(_logic("any"))
lowers("aten::all")(_logic("all"))
lowers("aten::_is_all_true")(_logic("all"))
lowers("aten::_is_any_true")(_logic("any"))


@lowers("aten::amax")
def amax(b: Builder, self: Node, dim: Any = (), keepdim: bool = False) -> Node:
    """Largest values."""
    return reduced(b, "mx.max", self, dim, keepdim)


@lowers("aten::amin")
def amin(b: Builder, self: Node, dim: Any = (), keepdim: bool = False) -> Node:
    """Smallest values."""
    return reduced(b, "mx.min", self, dim, keepdim)


@lowers("aten::aminmax")
def aminmax(b: Builder, self: Node, dim: Any = None, keepdim: bool = False) -> tuple[Node, Node]:
    """Smallest and largest."""
    return amin(b, self, dim, keepdim), amax(b, self, dim, keepdim)


def _extreme(name: str) -> Any:
    def function(b: Builder, self: Node, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return b.call(f"mx.{name}", self)
        if self.ndim and is_float(self):
            best = {"max": "largest", "min": "smallest"}[name]
            options = {"keepdims": True} if keepdim else {}
            values = b.call(f"kit.kinks.{best}", self, axis=dim, **options)
        else:
            values = reduced(b, f"mx.{name}", self, dim, keepdim)
        if self.ndim == 0:
            return values, b.call("mx.zeros", (), mx_dtype("int64"))
        where = reduced(b, _best(f"arg{name}", self), self, dim, keepdim)
        return values, b.cast(where, "int64")

    function.__name__ = name
    return function


lowers("aten::max")(_extreme("max"))
lowers("aten::min")(_extreme("min"))


def _best(name: str, x: Node) -> str:
    """The function for argmax or argmin; of no items there is none in MLX, and no index either,
    so that any reduction gives the shape."""
    return "mx.sum" if 0 in x.shape else f"mx.{name}"


def _arg(name: str) -> Any:
    def function(b: Builder, self: Node, dim: int | None = None, keepdim: bool = False) -> Node:
        if self.dtype == "bool":
            self = b.cast(self, "int32")
        if dim is None and keepdim and self.ndim:
            found = b.call(f"mx.{name}", self)
            return b.cast(b.reshape(found, (1,) * self.ndim), "int64")
        return b.cast(reduced(b, _best(name, self), self, dim, keepdim), "int64")

    function.__name__ = name
    return function


lowers("aten::argmax")(_arg("argmax"))
lowers("aten::argmin")(_arg("argmin"))


@lowers("aten::cumsum")
def cumsum(b: Builder, self: Node, dim: int, **_: Any) -> Node:
    """Running sums; of integers and booleans as int64."""
    x = b.cast(self, b.dtype) if b.dtype else self
    return x if x.ndim == 0 else b.call("mx.cumsum", x, axis=dim)


@lowers("aten::cumprod")
def cumprod(b: Builder, self: Node, dim: int, **_: Any) -> Node:
    """Running products."""
    x = b.cast(self, b.dtype) if b.dtype else self
    return x if x.ndim == 0 else b.call("mx.cumprod", x, axis=dim)


@lowers("aten::logcumsumexp")
def logcumsumexp(b: Builder, self: Node, dim: int) -> Node:
    """Running log-sum-exps."""
    return self if self.ndim == 0 else b.call("mx.logcumsumexp", self, axis=dim)


def _running(name: str) -> Any:
    def function(b: Builder, self: Node, dim: int) -> tuple[Node, Node]:
        found = b.call(f"kit.sorting.{name}", self, dim)
        return b.item(found, 0), b.item(found, 1)

    function.__name__ = name
    return function


lowers("aten::cummax")(_running("cummax"))
lowers("aten::cummin")(_running("cummin"))


@lowers("aten::logsumexp", "aten::special_logsumexp")
def logsumexp(b: Builder, self: Node, dim: Any, keepdim: bool = False) -> Node:
    """log of the sum of exps; that of no items, which MLX refuses, is -inf."""
    x = as_float(b, self)
    if 0 in x.shape:
        return b.call("mx.log", reduced(b, "mx.sum", b.call("mx.exp", x), dim, keepdim))
    return reduced(b, "mx.logsumexp", x, dim, keepdim)


@lowers("aten::count_nonzero")
def count_nonzero(b: Builder, self: Node, dim: Any = None) -> Node:
    """How many are not zero."""
    return reduced(b, "mx.sum", b.cast(b.call("operator.ne", self, 0), "int64"), dim, False)


@lowers("aten::nanmean")
def nanmean(b: Builder, self: Node, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    """Mean without NaNs."""
    bad = b.call("mx.isnan", self)
    total = reduced(b, "mx.sum", b.call("mx.where", bad, 0.0, self), dim, keepdim)
    kept = b.cast(b.call("mx.logical_not", bad), self.dtype)
    return b.call("operator.truediv", total, reduced(b, "mx.sum", kept, dim, keepdim))


@lowers("aten::sum_to_size")
def sum_to_size(b: Builder, self: Node, size: Any) -> Node:
    """Summed over the axes that broadcasting would add."""
    extra = self.ndim - len(size)
    axes = [*range(extra), *(extra + i for i, n in enumerate(size) if n == 1)]
    axes = [a for a in axes if a < extra or self.shape[a] != 1]
    found = b.call("mx.sum", self, axis=tuple(axes), keepdims=True) if axes else self
    return b.reshape(found, size) if extra else found


def _quantile(name: str, **more: Any) -> None:
    def function(
        b: Builder,
        self: Node,
        q: Any,
        dim: Any = None,
        keepdim: bool = False,
        interpolation: str = "linear",
    ) -> Node:
        if self.dtype != "float32":
            raise Refuse(f"of {self.dtype}: quantiles are those of float32 here")
        options = {} if interpolation == "linear" else {"interpolation": interpolation}
        q = b.array(q, self.dtype)
        return b.call("kit.sorting.quantile", self, q, dim, keepdim, **options, **more)

    function.__name__ = name
    lowers(f"aten::{name}")(function)


_quantile("quantile")
_quantile("nanquantile", ignore_nan=True)
