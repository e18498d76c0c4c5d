"""Decompositions of matrices beyond those of mlx.core.linalg, and what is solved with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node, Symbol
from torch2mlx.export.lower.ops.registry import lowers

CPU = Symbol("mx.cpu")


def _checked(*arrays: Any) -> None:
    """Refuses what MLX cannot decompose."""
    found = [x for x in arrays if isinstance(x, Node)]
    if any(x.dtype != "float32" for x in found):
        raise Refuse("of another dtype than float32")
    if any(0 in x.shape for x in found):
        raise Refuse("of nothing")


def _info(b: Builder, x: Node) -> Node:
    """Zeros for "no error"."""
    return b.call("mx.zeros", b.dims(x)[:-2], Symbol("mx.int32"))


@lowers("aten::linalg_lu")
def lu(b: Builder, A: Node, pivot: bool = True) -> Any:
    """P, L and U."""
    _checked(A)
    if not pivot:
        raise Refuse("without pivots")
    return b.items(b.call("kit.decompositions.lu", A))


@lowers("aten::linalg_lu_factor", "aten::linalg_lu_factor_ex", "aten::_lu_with_info")
def lu_factor(b: Builder, A: Any = None, pivot: bool = True, **more: Any) -> Any:
    """L and U in one matrix, and pivots; of some forms zeros for "no error" too."""
    x = A if A is not None else more["self"]
    _checked(x)
    if not pivot:
        raise Refuse("without pivots")
    factors, pivots = b.items(b.call("kit.decompositions.lu_factor", x))
    return (factors, pivots, _info(b, x)) if more else (factors, pivots)


@lowers("aten::lu_unpack")
def lu_unpack(
    b: Builder,
    LU_data: Node,
    LU_pivots: Node,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
) -> Any:
    """P, L and U of factors and pivots."""
    _checked(LU_data)
    if not (unpack_data and unpack_pivots):
        raise Refuse("of one part alone")
    return b.items(b.call("kit.decompositions.lu_unpack", LU_data, LU_pivots))


@lowers("aten::linalg_lu_solve")
def linalg_lu_solve(
    b: Builder, LU: Node, pivots: Node, B: Node, left: bool = True, adjoint: bool = False
) -> Node:
    """Solves by factors and pivots."""
    _checked(LU, B)
    options = {**({} if left else {"left": False}), **({"adjoint": True} if adjoint else {})}
    return b.call("kit.decompositions.lu_solve", LU, pivots, B, **options)


@lowers("aten::lu_solve")
def lu_solve(b: Builder, self: Node, LU_data: Node, LU_pivots: Node) -> Node:
    """The same in the older order."""
    return linalg_lu_solve(b, LU_data, LU_pivots, self)


@lowers("aten::cholesky_inverse")
def cholesky_inverse(b: Builder, self: Node, upper: bool = False) -> Node:
    """The inverse of the matrix of a Cholesky factor."""
    _checked(self)
    return b.call("kit.decompositions.cholesky_inverse", self, *((True,) if upper else ()))


@lowers("aten::linalg_tensorinv")
def tensorinv(b: Builder, self: Node, ind: int = 2) -> Node:
    """The inverse of a map between several axes."""
    _checked(self)
    return b.call("kit.decompositions.tensorinv", self, ind)


@lowers("aten::linalg_tensorsolve")
def tensorsolve(b: Builder, self: Node, other: Node, dims: Sequence[int] | None = None) -> Node:
    """Solves with a map between several axes."""
    _checked(self, other)
    more = {} if dims is None else {"dims": tuple(dims)}
    return b.call("kit.decompositions.tensorsolve", self, other, **more)


@lowers("aten::linalg_eig", "aten::_linalg_eig")
def eig(b: Builder, self: Node, **_: Any) -> Any:
    """Eigenvalues and vectors, complex."""
    _checked(self)
    return b.items(b.call("mx.linalg.eig", self, stream=CPU))


@lowers("aten::linalg_eigvals")
def eigvals(b: Builder, self: Node) -> Node:
    """Eigenvalues, complex."""
    _checked(self)
    return b.call("mx.linalg.eigvals", self, stream=CPU)


@lowers("aten::linalg_matrix_rank")
def matrix_rank(b: Builder, self: Any = None, hermitian: bool = False, **more: Any) -> Node:
    """How many singular values count."""
    x = self if self is not None else more["input"]
    _checked(x)
    given = {"rtol": more.get("rtol"), "atol": more.get("atol", more.get("tol"))}
    if any(isinstance(value, Node) for value in given.values()):
        raise Refuse("with limits in an array")
    options = {name: value for name, value in given.items() if value is not None}
    if "atol" in options and "rtol" not in options:
        options["rtol"] = 0.0
    if hermitian:
        options["hermitian"] = True
    return b.call("kit.decompositions.matrix_rank", x, **options)


@lowers("aten::linalg_cond")
def cond(b: Builder, self: Node, p: Any = None) -> Node:
    """The condition number."""
    _checked(self)
    return b.call("kit.decompositions.cond", self, *(() if p is None else (p,)))
