"""Linear algebra: MLX runs it on its CPU stream."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node, Symbol
from torch2mlx.export.lower.ops.functions import as_float
from torch2mlx.export.lower.ops.linear import matmul
from torch2mlx.export.lower.ops.registry import lowers

CPU = Symbol("mx.cpu")
#: What MLX has without gradients, and the kit with.
_WITH_GRADIENTS = ("inv", "solve")


def _on_cpu(b: Builder, name: str, *args: Any, **options: Any) -> Node:
    if any(isinstance(x, Node) and x.dtype != "float32" for x in args):
        raise Refuse("of another dtype than float32")
    if any(isinstance(x, Node) and 0 in x.shape for x in args):
        raise Refuse("of nothing")
    if name in _WITH_GRADIENTS:
        return b.call(f"kit.algebra.{name}", *args)
    return b.call(f"mx.linalg.{name}", *args, **options, stream=CPU)


@lowers("aten::linalg_inv", "aten::inverse")
def inv(b: Builder, A: Any = None, self: Any = None) -> Node:
    """The inverse of matrices."""
    return _on_cpu(b, "inv", A if A is not None else self)


@lowers("aten::linalg_inv_ex")
def inv_ex(b: Builder, A: Node, check_errors: bool = False) -> tuple[Node, Node]:
    """The inverse, and zeros for "no error"."""
    return _on_cpu(b, "inv", A), _no_error(b, A)


def _no_error(b: Builder, x: Node) -> Node:
    return b.call("mx.zeros", b.dims(x)[:-2], Symbol("mx.int32"))


@lowers("aten::linalg_cholesky", "aten::cholesky")
def cholesky(b: Builder, self: Any = None, upper: bool = False, input: Any = None) -> Node:
    """The Cholesky factor."""
    x = self if self is not None else input
    return _on_cpu(b, "cholesky", x, **({"upper": True} if upper else {}))


@lowers("aten::linalg_cholesky_ex")
def cholesky_ex(
    b: Builder, self: Node, upper: bool = False, check_errors: bool = False
) -> tuple[Node, Node]:
    """The Cholesky factor, and zeros for "no error"."""
    return cholesky(b, self, upper), _no_error(b, self)


@lowers("aten::cholesky_solve")
def cholesky_solve(b: Builder, self: Node, input2: Node, upper: bool = False) -> Node:
    """Solves by a Cholesky factor."""
    factor = b.swap(input2, -1, -2) if upper else input2
    whole = b.call("operator.matmul", factor, b.swap(factor, -1, -2))
    return _on_cpu(b, "solve", whole, self)


@lowers("aten::linalg_solve", "aten::linalg_solve_ex")
def solve(b: Builder, A: Node, B: Node, left: bool = True, **_: Any) -> Any:
    """X of A X = B."""
    if not left:
        turned = solve(b, b.swap(A, -1, -2), b.swap(B, -1, -2))
        return b.swap(turned, -1, -2)
    if B.ndim == A.ndim - 1 and B.shape == A.shape[:-1]:
        column = _on_cpu(b, "solve", A, b.call("mx.expand_dims", B, B.ndim))
        return b.at(column, -1, 0)
    return _on_cpu(b, "solve", *_batched(b, A, B))


def _batched(b: Builder, x: Node, y: Node) -> tuple[Node, Node]:
    """Matrices with their batch axes broadcast, which mx.linalg does not do."""
    import numpy as np

    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    made = []
    for m in (x, y):
        wide = (*batch, *m.shape[-2:])
        made.append(m if m.shape == wide else b.call("mx.broadcast_to", m, wide))
    return made[0], made[1]


@lowers("aten::linalg_solve_triangular")
def solve_triangular(
    b: Builder, self: Node, B: Node, upper: bool, left: bool = True, unitriangular: bool = False
) -> Node:
    """X of A X = B for a triangular A."""
    if unitriangular:
        raise Refuse("with ones taken for the diagonal")
    if not left:
        turned = solve_triangular(b, b.swap(self, -1, -2), b.swap(B, -1, -2), not upper)
        return b.swap(turned, -1, -2)
    triangle = b.call("mx.triu" if upper else "mx.tril", self)
    return _on_cpu(b, "solve", *_batched(b, triangle, B))


@lowers("aten::linalg_qr")
def qr(b: Builder, A: Node, mode: str = "reduced") -> Any:
    """The QR decomposition."""
    if mode != "reduced":
        raise Refuse(f"mode={mode!r}")
    return b.items(_on_cpu(b, "qr", A))


@lowers("aten::linalg_svd", "aten::svd")
def svd(
    b: Builder, A: Any = None, full_matrices: bool = True, self: Any = None, **more: Any
) -> Any:
    """Singular values and vectors: left, values, right transposed."""
    x = A if A is not None else self
    small = not full_matrices or self is not None
    u, s, vt = b.items(_on_cpu(b, "svd", x))
    if small:
        count = min(x.shape[-2:])
        u, vt = b.at(u, -1, slice(count)), b.at(vt, -2, slice(count))
    return u, s, (b.swap(vt, -1, -2) if self is not None else vt)


@lowers("aten::linalg_svdvals")
def svdvals(b: Builder, A: Node, **_: Any) -> Node:
    """Singular values."""
    return _on_cpu(b, "svd", A, compute_uv=False)


@lowers("aten::linalg_eigh", "aten::_linalg_eigh")
def eigh(b: Builder, A: Any = None, UPLO: str = "L", **more: Any) -> Any:
    """Eigenvalues and vectors of symmetric matrices."""
    return b.items(_on_cpu(b, "eigh", A if A is not None else more["self"], UPLO))


@lowers("aten::linalg_eigvalsh")
def eigvalsh(b: Builder, self: Node, UPLO: str = "L") -> Node:
    """Eigenvalues of symmetric matrices."""
    return _on_cpu(b, "eigvalsh", self, UPLO)


def _determinant(b: Builder, name: str, x: Node) -> Node:
    if x.dtype != "float32" or 0 in x.shape:
        raise Refuse("of another dtype than float32, or of nothing")
    return b.call(f"kit.algebra.{name}", x)


@lowers("aten::linalg_det", "aten::det")
def det(b: Builder, A: Any = None, self: Any = None) -> Node:
    """The determinant, from the LU decomposition: signs of swaps times the diagonal."""
    return _determinant(b, "det", A if A is not None else self)


@lowers("aten::linalg_slogdet", "aten::slogdet")
def slogdet(b: Builder, A: Any = None, self: Any = None) -> tuple[Node, ...]:
    """Sign and logarithm of the determinant's size, which itself may be out of float32's range."""
    return b.items(_determinant(b, "slogdet", A if A is not None else self))


@lowers("aten::logdet")
def logdet(b: Builder, self: Node) -> Node:
    """The logarithm of the determinant."""
    return _determinant(b, "logdet", self)


@lowers("aten::linalg_pinv", "aten::pinverse")
def pinv(b: Builder, self: Node, rcond: Any = 1e-15, **more: Any) -> Node:
    """The pseudo-inverse."""
    if more.get("hermitian") or any(isinstance(v, Node) for v in (rcond, *more.values())):
        raise Refuse("with these options")
    if self.dtype != "float32" or 0 in self.shape:
        raise Refuse("of another dtype than float32, or of nothing")
    limit = _usual_limit(b, self) if rcond == 1e-15 else rcond
    limit = more["rtol"] if more.get("rtol") is not None else limit
    return b.call("kit.algebra.pinv", self, limit, more.get("atol") or 0.0)


def _usual_limit(b: Builder, x: Node) -> Any:
    """What singular values are taken for 0: those below so much of the largest."""
    lengths = b.dim(x, -2), b.dim(x, -1)
    vary = any(isinstance(length, Node) for length in lengths)
    longest = b.call("builtin.max", *lengths) if vary else max(lengths)
    return b.scalar("mul", longest, 2.0**-23)


@lowers("aten::linalg_matrix_power", "aten::matrix_power")
def matrix_power(b: Builder, self: Node, n: int) -> Node:
    """A matrix times itself n times."""
    if n < 0:
        return matrix_power(b, _on_cpu(b, "inv", self), -n)
    if n == 0:
        eye = b.call("mx.eye", self.shape[-1])
        return b.call("mx.broadcast_to", b.cast(eye, self.dtype), b.dims(self))
    found = self
    for _ in range(n - 1):
        found = matmul(b, found, self)
    return found


@lowers("aten::matrix_exp", "aten::linalg_matrix_exp")
def matrix_exp(b: Builder, self: Node) -> Node:
    """The exponential of matrices."""
    if self.dtype not in ("float32", "float64"):
        raise Refuse(f"of {self.dtype}")
    return b.call("kit.algebra.matrix_exp", self)


@lowers("aten::linalg_householder_product", "aten::orgqr")
def householder_product(b: Builder, input: Any = None, tau: Any = None, **more: Any) -> Node:
    """The product of reflections."""
    x, scales = input, tau
    if more:
        x, scales = more["self"], more["input2"]
    if "complex" in x.dtype:
        raise Refuse("of complex numbers")
    return b.call("kit.algebra.householder_product", x, scales)


@lowers("aten::cov")
def cov(
    b: Builder, self: Node, correction: int = 1, fweights: Any = None, aweights: Any = None
) -> Node:
    """Covariances of rows."""
    if fweights is not None or aweights is not None:
        raise Refuse("with weights")
    x = as_float(b, self)
    x = b.reshape(x, (1, -1)) if x.ndim < 2 else x
    centred = b.call("operator.sub", x, b.call("mx.mean", x, axis=1, keepdims=True))
    product = b.call("operator.matmul", centred, b.swap(centred, 0, 1))
    count = b.scalar("sub", b.dim(x, 1), correction)
    found = b.call("operator.truediv", product, count)
    return b.reshape(found, ()) if self.ndim < 2 else found


@lowers("aten::diag_embed")
def diag_embed(b: Builder, self: Node, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Node:
    """The last axis as a diagonal of two new ones."""
    n = self.shape[-1] + abs(offset)
    rows = b.call("mx.arange", self.shape[-1])
    first = b.call("operator.add", rows, max(-offset, 0))
    second = b.call("operator.add", rows, max(offset, 0))
    blank = b.call("mx.zeros", (*b.dims(self)[:-1], n, n), Symbol(f"mx.{_name(self)}"))
    whole = (*[slice(None)] * (self.ndim - 1), first, second)
    filled = b.call("kit.indexing.assign", blank, whole, self)
    axes = [dim1 % filled.ndim, dim2 % filled.ndim]
    order: list[Any] = [None] * filled.ndim
    order[axes[0]], order[axes[1]] = filled.ndim - 2, filled.ndim - 1
    rest = iter(range(filled.ndim - 2))
    return b.transpose(filled, [next(rest) if o is None else o for o in order])


def _name(x: Node) -> str:
    return "bool_" if x.dtype == "bool" else x.dtype
