"""Norms, distances, differences, histograms."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.functions import as_float
from torch2mlx.export.lower.ops.reductions import reduced
from torch2mlx.export.lower.ops.registry import lowers


@lowers("aten::linalg_vector_norm")
def vector_norm(
    b: Builder, self: Node, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any
) -> Node:
    """The p-norm of vectors."""
    x = as_float(b, self)
    x = b.call("mx.abs", x) if x.dtype == "complex64" else x
    if x.dtype in ("float16", "bfloat16"):
        x = b.cast(x, "float32")  # squares of half numbers overflow
    if ord == 2:
        return reduced(b, "kit.distance.norm", x, dim, keepdim)
    size = b.call("mx.abs", x)
    if ord == 1:
        return reduced(b, "mx.sum", size, dim, keepdim)
    if ord in (float("inf"), float("-inf")):
        return reduced(b, "mx.max" if ord > 0 else "mx.min", size, dim, keepdim)
    if ord == 0:
        return reduced(b, "mx.sum", b.cast(b.call("operator.ne", x, 0), x.dtype), dim, keepdim)
    return reduced(b, "kit.distance.power_norm", x, dim, keepdim, p=ord)


@lowers("aten::norm")
def norm(
    b: Builder, self: Node, p: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any
) -> Node:
    """The p-norm of all numbers, or of axes."""
    return vector_norm(b, self, 2 if p is None or p == "fro" else p, dim, keepdim)


@lowers("aten::linalg_norm")
def linalg_norm(
    b: Builder, self: Node, ord: Any = None, dim: Any = None, keepdim: bool = False, **_: Any
) -> Node:
    """A norm of vectors, or of matrices."""
    if ord is None or self.ndim == 1 or isinstance(dim, int) or (dim is not None and len(dim) == 1):
        return vector_norm(b, self, 2 if ord is None else ord, dim, keepdim)
    if ord == "fro":
        return vector_norm(b, self, 2, dim, keepdim)
    return matrix_norm(b, self, ord, dim or (-2, -1), keepdim)


@lowers("aten::linalg_matrix_norm")
def matrix_norm(
    b: Builder, self: Node, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, **_: Any
) -> Node:
    """A norm of matrices: Frobenius, or the largest row or column sum."""
    if ord == "fro":
        return vector_norm(b, self, 2, dim, keepdim)
    rows, columns = (d % self.ndim for d in dim)
    if ord in (1, -1, float("inf"), float("-inf")):
        first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = reduced(b, "mx.sum", b.call("mx.abs", self), first, True)
        best = reduced(b, "mx.max" if ord > 0 else "mx.min", sums, second, True)
        return best if keepdim else b.call("method.squeeze", best, (rows, columns))
    raise Refuse(f"ord={ord} needs singular values")


@lowers("aten::dist")
def dist(b: Builder, self: Node, other: Node, p: Any = 2) -> Node:
    """The p-norm of a difference."""
    return vector_norm(b, b.call("operator.sub", self, other), p)


@lowers("aten::diff")
def diff(
    b: Builder, self: Node, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None
) -> Node:
    """Differences of neighbours along an axis."""
    around = tuple(x for x in (prepend, self, append) if x is not None)
    x = b.call("mx.concatenate", around, axis=dim) if len(around) > 1 else self
    for _ in range(n):
        after = b.at(x, dim, slice(1, None))
        before = b.at(x, dim, slice(None, -1))
        x = b.call("operator.ne" if x.dtype == "bool" else "operator.sub", after, before)
    return x


def _area(name: str, *names: str) -> None:
    def function(b: Builder, y: Node, x: Any = None, dx: Any = 1, dim: int = -1) -> Node:
        if x is not None and x.ndim not in (1, y.ndim):
            raise Refuse("with x of another rank")
        given = {**({} if dx == 1 else {"dx": dx}), **({} if dim == -1 else {"dim": dim})}
        points = () if x is None else (x,)
        return b.call(f"kit.arrangements.{name}", y, *points, **given)

    function.__name__ = name
    lowers(*(f"aten::{n}" for n in names))(function)


_area("trapezoid", "trapezoid", "trapz")
_area("cumulative_trapezoid", "cumulative_trapezoid")


@lowers("aten::histc")
def histc(b: Builder, self: Node, bins: int = 100, min: Any = 0, max: Any = 0) -> Node:
    """How many numbers fall into each of even bins."""
    return b.call("kit.sorting.histc", self, bins, min, max)


@lowers("aten::trace")
def trace(b: Builder, self: Node) -> Node:
    """The sum of the diagonal."""
    return b.call("mx.sum", b.call("mx.diagonal", self))
