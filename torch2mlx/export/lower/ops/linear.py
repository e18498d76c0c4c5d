"""Products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers

EXACT = ("float16", "bfloat16", "float32", "complex64")


@lowers("aten::linear")
def linear(b: Builder, input: Node, weight: Node, bias: Node | None = None) -> Node:
    """input @ weight.T + bias; the weight is (out, in)."""
    turned = b.swap(weight, 0, 1) if weight.ndim > 1 else weight
    if bias is None:
        return matmul(b, input, turned)
    if input.ndim < 2:
        return b.call("operator.add", matmul(b, input, turned), bias)
    return b.call("mx.addmm", bias, input, turned)


@lowers("aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::linalg_matmul")
def matmul(b: Builder, self: Node, other: Any = None, mat2: Any = None, vec: Any = None) -> Node:
    """Matrix products; MLX has none of integers, which are added up."""
    y = next(v for v in (other, mat2, vec) if v is not None)
    if self.dtype in EXACT:
        return b.call("operator.matmul", self, y)
    return summed(b, self, y)


def summed(b: Builder, x: Node, y: Node) -> Node:
    """A matrix product as a sum of products, exact for integers."""
    if x.dtype == "float64":
        raise Refuse("float64: MLX has no matrix product of it")
    if y.ndim == 1:
        return b.call("mx.sum", b.call("operator.mul", x, y), axis=-1)
    rows = b.call("mx.expand_dims", x, -1)
    columns = y if x.ndim == 1 else b.call("mx.expand_dims", y, -3)
    return b.call("mx.sum", b.call("operator.mul", rows, columns), axis=-2)


@lowers("aten::dot", "aten::vdot")
def dot(b: Builder, self: Node, tensor: Any = None, other: Any = None) -> Node:
    """The product of two vectors."""
    y = tensor if tensor is not None else other
    if self.dtype == "complex64" and tensor is None:
        self = b.call("mx.conj", self)
    return matmul(b, self, y)


@lowers("aten::inner")
def inner(b: Builder, self: Node, other: Node) -> Node:
    """Products over the last axes."""
    if self.ndim == 0 or other.ndim == 0:
        return b.call("operator.mul", self, other)
    return b.call("mx.inner", self, other)


@lowers("aten::outer", "aten::ger")
def outer(b: Builder, self: Node, vec2: Node) -> Node:
    """All products of two vectors."""
    return b.call("mx.outer", self, vec2)


@lowers("aten::kron")
def kron(b: Builder, self: Node, other: Node) -> Node:
    """The Kronecker product."""
    return b.call("mx.kron", self, other)


def _plus(b: Builder, base: Node, product: Node, beta: Any, alpha: Any) -> Node:
    if alpha != 1:
        product = b.call("operator.mul", alpha, product)
    if beta == 0:
        return product
    if beta != 1:
        base = b.call("operator.mul", beta, base)
    return b.call("operator.add", base, product)


@lowers("aten::addmm", "aten::baddbmm")
def addmm(
    b: Builder,
    self: Node,
    mat1: Any = None,
    mat2: Any = None,
    batch1: Any = None,
    batch2: Any = None,
    beta: Any = 1,
    alpha: Any = 1,
) -> Node:
    """beta * self + alpha * (mat1 @ mat2)."""
    x, y = (mat1, mat2) if mat1 is not None else (batch1, batch2)
    if x.dtype in EXACT and beta != 0 and "complex" not in x.dtype:
        more = {
            **({} if alpha == 1 else {"alpha": float(alpha)}),
            **({} if beta == 1 else {"beta": float(beta)}),
        }
        return b.call("mx.addmm", self, x, y, **more)
    return _plus(b, self, matmul(b, x, y), beta, alpha)


@lowers("aten::addmv")
def addmv(b: Builder, self: Node, mat: Node, vec: Node, beta: Any = 1, alpha: Any = 1) -> Node:
    """beta * self + alpha * (mat @ vec)."""
    return _plus(b, self, matmul(b, mat, vec), beta, alpha)


@lowers("aten::addr")
def addr(b: Builder, self: Node, vec1: Node, vec2: Node, beta: Any = 1, alpha: Any = 1) -> Node:
    """beta * self + alpha * outer(vec1, vec2)."""
    return _plus(b, self, b.call("mx.outer", vec1, vec2), beta, alpha)


@lowers("aten::addbmm")
def addbmm(
    b: Builder, self: Node, batch1: Node, batch2: Node, beta: Any = 1, alpha: Any = 1
) -> Node:
    """beta * self + alpha * the sum of products."""
    return _plus(b, self, b.call("mx.sum", matmul(b, batch1, batch2), axis=0), beta, alpha)


@lowers("aten::einsum")
def einsum(b: Builder, equation: str, tensors: Sequence[Node], path: Any = None) -> Node:
    """Einstein's notation."""
    if any(x.dtype not in EXACT for x in tensors):
        raise Refuse("of integers")
    plain = equation.replace(" ", "")
    if "..." in plain:
        plain = _spelled(plain, tensors)
    return b.call("mx.einsum", plain, *tensors)


def _spelled(equation: str, tensors: Sequence[Node]) -> str:
    """An equation with letters in place of its dots, which MLX does not take."""
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    unused = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in equation]
    counts = [
        x.ndim - len(t.replace("...", ""))
        for t, x in zip(terms, tensors, strict=True)
        if "..." in t
    ]
    most = max(counts)
    if any(count not in (0, most) for count in counts):
        raise Refuse("with dots that stand for different numbers of axes")
    letters = "".join(unused[:most])
    counted = iter(counts)
    spelled = ",".join(
        t.replace("...", letters[most - next(counted) :]) if "..." in t else t for t in terms
    )
    if not arrow:
        plain = inputs.replace("...", "").replace(",", "")
        output = "..." + "".join(sorted(c for c in set(plain) if plain.count(c) == 1))
    return f"{spelled}->{output.replace('...', letters)}"


@lowers("aten::tensordot")
def tensordot(
    b: Builder, self: Node, other: Node, dims_self: Sequence[int], dims_other: Sequence[int]
) -> Node:
    """Products summed over chosen axes."""
    return b.call("mx.tensordot", self, other, (tuple(dims_self), tuple(dims_other)))


@lowers("aten::bilinear")
def bilinear(b: Builder, input1: Node, input2: Node, weight: Node, bias: Any = None) -> Node:
    """x1 W x2 for each output."""
    product = b.call("mx.einsum", "bi,oij,bj->bo", _rows(b, input1), weight, _rows(b, input2))
    y = b.reshape(product, (*b.dims(input1)[:-1], weight.shape[0]))
    return y if bias is None else b.call("operator.add", y, bias)


def _rows(b: Builder, x: Node) -> Node:
    return x if x.ndim == 2 else b.reshape(x, (-1, x.shape[-1]))


@lowers("aten::chain_matmul", "aten::linalg_multi_dot")
def multi_dot(b: Builder, matrices: Any = None, tensors: Any = None) -> Node:
    """A product of several matrices."""
    given: Sequence[Node] = matrices or tensors
    product = given[0]
    for matrix in given[1:]:
        product = matmul(b, product, matrix)
    return product


@lowers("aten::linalg_cross", "aten::cross")
def cross(b: Builder, self: Node, other: Node, dim: int | None = -1) -> Node:
    """The product of vectors in space."""
    if dim is None:
        dim = next(i for i, n in enumerate(self.shape) if n == 3)
    return b.call("mx.linalg.cross", self, other, axis=dim)


@lowers("aten::linalg_vecdot")
def vecdot(b: Builder, x: Node, y: Node, dim: int = -1) -> Node:
    """Products of vectors along an axis."""
    x = b.call("mx.conj", x) if x.dtype == "complex64" else x
    return b.call("mx.sum", b.call("operator.mul", x, y), axis=dim)


@lowers("aten::cosine_similarity")
def cosine_similarity(b: Builder, x1: Node, x2: Node, dim: int = 1, eps: float = 1e-8) -> Node:
    """The cosine of the angle between vectors."""
    return b.call("kit.distance.cosine_similarity", x1, x2, dim, eps)


@lowers("aten::pairwise_distance")
def pairwise_distance(
    b: Builder, x1: Node, x2: Node, p: float = 2, eps: float = 1e-6, keepdim: bool = False
) -> Node:
    """The p-norm of differences, row by row."""
    return b.call("kit.distance.pairwise_distance", x1, x2, p, eps, keepdim)


@lowers("aten::cdist", "aten::_cdist_forward")
def cdist(b: Builder, x1: Node, x2: Node, p: float = 2, compute_mode: Any = None) -> Node:
    """All p-distances between two sets of rows."""
    return b.call("kit.distance.cdist", x1, x2, p)


@lowers("aten::pdist", "aten::_pdist_forward")
def pdist(b: Builder, self: Node, p: float = 2) -> Node:
    """All p-distances within one set of rows."""
    return b.call("kit.distance.pdist", self, p)


@lowers("aten::renorm")
def renorm(b: Builder, self: Node, p: Any, dim: int, maxnorm: Any) -> Node:
    """Slices along an axis scaled to a largest norm."""
    if p in (0, float("inf")):
        raise Refuse(f"p={p}")
    return b.call("kit.sorting.renorm", self, p, dim, maxnorm)


@lowers("aten::_weight_norm", "aten::_weight_norm_interface")
def weight_norm(b: Builder, v: Node, g: Node, dim: int = 0) -> Node:
    """g * v / |v|, the norm over all axes but one."""
    axes = tuple(a for a in range(v.ndim) if a != dim % v.ndim) if dim != -1 else None
    total = b.call("mx.sum", b.call("mx.square", v), axis=axes, keepdims=True)
    return b.call("operator.mul", v, b.call("operator.truediv", g, b.call("mx.sqrt", total)))


@lowers("transformers::grouped_mm_fallback", "aten::_grouped_mm")
def grouped_mm(
    b: Builder,
    input: Any = None,
    weight: Any = None,
    offs: Any = None,
    self: Any = None,
    mat2: Any = None,
    bias: Any = None,
    **_: Any,
) -> Node:
    """Rows in groups, each times the matrix of its group: `offs` has the ends of the groups."""
    x, w = (input, weight) if input is not None else (self, mat2)
    if offs is None or bias is not None or w.ndim != 3 or x.ndim != 2:
        raise Refuse("with matrices of these ranks")
    return b.call("kit.moe.grouped_mm", x, w, offs)
