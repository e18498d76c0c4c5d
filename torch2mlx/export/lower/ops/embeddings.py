"""Rows of tables by index, and sums, means and maxima over bags of them."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers
from torch2mlx.export.lower.ops.segments import unread


@lowers("aten::embedding")
def embedding(
    b: Builder,
    weight: Node,
    indices: Node,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    **_: Any,
) -> Node:
    """Rows of a table; that of the padding gets no gradient."""
    if scale_grad_by_freq:
        raise Refuse("scale_grad_by_freq: gradients by how often a row is used")
    if padding_idx >= 0:
        return b.call("kit.functional.embedding", indices, weight, padding_idx)
    return b.index(weight, indices)


@lowers("aten::embedding_bag")
def embedding_bag(
    b: Builder,
    weight: Node,
    indices: Node,
    offsets: Node,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    per_sample_weights: Node | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    **_: Any,
) -> tuple[Node, None, None, None]:
    """Sums, means or maxima of a table's rows; the other results serve torch's own gradients."""
    if scale_grad_by_freq:
        raise Refuse("scale_grad_by_freq: gradients by how often a row is used")
    unread(b, (1, 2, 3))
    given = () if per_sample_weights is None else (per_sample_weights,)
    options = {
        "mode": ("sum", "mean", "max")[mode],
        **({"include_last_offset": True} if include_last_offset else {}),
        **({} if padding_idx is None else {"padding_idx": padding_idx}),
    }
    found = b.call("kit.embedding.embedding_bag", indices, weight, offsets, *given, **options)
    return found, None, None, None
