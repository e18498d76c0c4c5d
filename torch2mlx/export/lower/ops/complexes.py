"""Complex numbers and Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.functions import as_float
from torch2mlx.export.lower.ops.registry import lowers

IMAGINARY = 1j


@lowers("aten::sigmoid", "aten::special_expit")
def sigmoid(b: Builder, self: Node) -> Node:
    """1 / (1 + exp(-x)); MLX has its own for real numbers."""
    if self.dtype != "complex64":
        return b.call("mx.sigmoid", as_float(b, self))
    below = b.call("operator.add", 1, b.call("mx.exp", b.call("operator.neg", self)))
    return b.call("operator.truediv", 1, below)


@lowers("aten::real")
def real(b: Builder, self: Node) -> Node:
    """Real parts."""
    return b.call("mx.real", self) if self.dtype == "complex64" else self


@lowers("aten::imag")
def imag(b: Builder, self: Node) -> Node:
    """Imaginary parts."""
    return b.call("mx.imag", self)


@lowers("aten::complex")
def complex_(b: Builder, real: Node, imag: Node) -> Node:
    """real + i imag."""
    turned = b.call("operator.mul", b.cast(imag, "complex64"), IMAGINARY)
    return b.call("operator.add", real, turned)


@lowers("aten::polar")
def polar(b: Builder, abs: Node, angle: Node) -> Node:
    """abs * exp(i angle)."""
    return complex_(
        b,
        b.call("operator.mul", abs, b.call("mx.cos", angle)),
        b.call("operator.mul", abs, b.call("mx.sin", angle)),
    )


@lowers("aten::view_as_complex", "aten::view_as_complex_copy")
def view_as_complex(b: Builder, self: Node) -> Node:
    """(..., 2) -> complex."""
    return complex_(b, b.at(self, -1, 0), b.at(self, -1, 1))


@lowers("aten::view_as_real", "aten::view_as_real_copy")
def view_as_real(b: Builder, self: Node) -> Node:
    """complex -> (..., 2)."""
    return b.call("mx.stack", (b.call("mx.real", self), b.call("mx.imag", self)), axis=-1)


NORMS = ("backward", "forward", "ortho")


def _scaled(b: Builder, x: Node, normalization: int, forward: bool, count: int) -> Node:
    """torch's normalisation: 0 none, 1 by the root of the length, 2 by the length."""
    inverse_of_mlx = 1.0 if forward else float(count)
    factor = {0: 1.0, 1: count**-0.5, 2: 1.0 / count}[normalization] * inverse_of_mlx
    return x if factor == 1.0 else b.call("operator.mul", x, factor)


@lowers("aten::_fft_c2c")
def fft_c2c(b: Builder, self: Node, dim: Any, normalization: int, forward: bool) -> Node:
    """A transform of complex numbers."""
    axes, count = tuple(dim), 1
    for axis in axes:
        count *= b.number(self.shape[axis])
    name = "mx.fft.fftn" if forward else "mx.fft.ifftn"
    return _scaled(b, b.call(name, self, axes=axes), normalization, forward, count)


def _transform(name: str) -> Any:
    def function(
        b: Builder,
        self: Node,
        n: Any = None,
        dim: Any = None,
        norm: str | None = None,
        s: Any = None,
    ) -> Node:
        if name.endswith(("n", "2")):
            last = range(-len(s), 0) if s is not None else range(-self.ndim, 0)
            axes = tuple(dim) if dim is not None else tuple(last)
            sizes: Any = s
            given = {} if s is None else {"s": tuple(s)}
            y = b.call(f"mx.fft.{name}", self, **given, axes=axes)
        else:
            axes, sizes = (-1 if dim is None else dim,), None if n is None else (n,)
            given = {} if n is None else {"n": n}
            y = b.call(f"mx.fft.{name}", self, **given, axis=axes[0])
        if norm in (None, "backward"):
            return y
        return _normed(b, name, self, y, axes, sizes, norm)

    function.__name__ = name
    return function


def _normed(
    b: Builder, name: str, x: Node, y: Node, axes: Sequence[int], sizes: Any, norm: str
) -> Node:
    """MLX divides by the number of values in inverse transforms; torch by what `norm` says."""
    lengths = list(sizes) if sizes is not None else [b.dim(x, axis % x.ndim) for axis in axes]
    if sizes is None and name.startswith("irfft"):
        lengths[-1] = b.scalar("mul", b.scalar("sub", lengths[-1], 1), 2)
    count: Any = 1
    for length in lengths:
        count = length if count == 1 else b.scalar("mul", count, length)
    if name.startswith("i"):
        factor = b.scalar("pow", count, 0.5) if norm == "ortho" else count
        return b.call("operator.mul", y, factor)
    return b.call("operator.truediv", y, b.scalar("pow", count, 0.5) if norm == "ortho" else count)


for _name in (
    "fft",
    "ifft",
    "rfft",
    "irfft",
    "fft2",
    "ifft2",
    "rfft2",
    "irfft2",
    "fftn",
    "ifftn",
    "rfftn",
    "irfftn",
):
    lowers(f"aten::fft_{_name}")(_transform(_name))


def _shifted(name: str) -> Any:
    def function(b: Builder, self: Node, dim: Any = None) -> Node:
        axes = (
            tuple(range(self.ndim))
            if dim is None
            else (dim,)
            if isinstance(dim, int)
            else tuple(dim)
        )
        return b.call(f"mx.fft.{name}", self, axes=axes)

    function.__name__ = name
    return function


lowers("aten::fft_fftshift")(_shifted("fftshift"))
lowers("aten::fft_ifftshift")(_shifted("ifftshift"))
