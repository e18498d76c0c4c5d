"""Sparse tensors, which are dense arrays in MLX."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.linear import addmm, matmul
from torch2mlx.export.lower.ops.registry import lowers


@lowers("aten::sparse_coo_tensor")
def sparse_coo_tensor(
    b: Builder,
    indices: Any = None,
    values: Any = None,
    size: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    is_coalesced: Any = None,
) -> Node:
    """Values at their places in an array of zeros."""
    if not isinstance(indices, Node) or not isinstance(values, Node):
        raise Refuse("an empty sparse tensor: give it indices and values")
    told = () if size is None else (tuple(size),)
    return b.call("kit.sparse.dense", indices, values, *told)


@lowers("aten::_sparse_mm")
def sparse_mm(b: Builder, sparse: Node, dense: Node) -> Node:
    """A matrix product."""
    return matmul(b, sparse, dense)


@lowers("aten::_sparse_addmm")
def sparse_addmm(
    b: Builder, self: Node, mat1: Node, mat2: Node, beta: Any = 1, alpha: Any = 1
) -> Node:
    """beta * self + alpha * (mat1 @ mat2)."""
    return addmm(b, self, mat1, mat2, beta=beta, alpha=alpha)
