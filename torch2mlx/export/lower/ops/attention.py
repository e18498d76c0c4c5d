"""Attention."""

from __future__ import annotations

import math
from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.activations import safe_softmax
from torch2mlx.export.lower.ops.random import mode
from torch2mlx.export.lower.ops.registry import lowers


@lowers("aten::scaled_dot_product_attention")
def attention(
    b: Builder,
    query: Node,
    key: Node,
    value: Node,
    attn_mask: Node | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Node:
    """softmax(q k^T * scale + mask) v; booleans of the mask say who takes part."""
    scale = _root(b, b.dim(query, query.ndim - 1)) if scale is None else scale
    if dropout_p or query.ndim != 4 or key.ndim != 4 or not _fast(query, value):
        return _written_out(
            b, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
        )
    mask: Any = attn_mask
    if is_causal:
        square = (query.dims or query.shape)[2] == (key.dims or key.shape)[2]
        mask = "causal" if square else _corner(b, query, key)
    elif isinstance(mask, Node) and mask.dtype not in ("bool", query.dtype):
        mask = b.cast(mask, query.dtype)
    if isinstance(mask, Node):  # rows that are barred whole: tidy.causal knows where there are none
        op = "kit.attention.scaled_dot_product_attention"
        return b.call(op, query, key, value, scale=scale, mask=mask)
    op = "mx.fast.scaled_dot_product_attention"
    return b.call(op, query, key, value, scale=scale, **({} if mask is None else {"mask": mask}))


def _root(b: Builder, width: Any) -> Any:
    """One over the root of a width."""
    return b.scalar("pow", width, -0.5) if isinstance(width, Node) else 1 / math.sqrt(width)


def _fast(query: Node, value: Node) -> bool:
    return query.dtype in ("float16", "bfloat16", "float32") and query.shape[-1] == value.shape[-1]


def _corner(b: Builder, query: Node, key: Node) -> Node:
    """torch's causal mask: the corner is at the start, also with more keys than queries."""
    rows = b.call("mx.arange", b.dim(query, query.ndim - 2))
    columns = b.call("mx.arange", b.dim(key, key.ndim - 2))
    return b.call("operator.ge", b.call("mx.expand_dims", rows, 1), columns)


def _written_out(
    b: Builder,
    query: Node,
    key: Node,
    value: Node,
    mask: Any,
    dropout: float,
    is_causal: bool,
    scale: float,
    grouped: bool,
) -> Node:
    if grouped and query.shape[-3] != key.shape[-3]:
        times = query.shape[-3] // key.shape[-3]
        key, value = (b.call("mx.repeat", x, times, axis=-3) for x in (key, value))
    scores = b.call("operator.matmul", b.call("operator.mul", query, scale), b.swap(key, -1, -2))
    if is_causal:
        mask = _corner(b, query, key)
    if mask is not None:
        if mask.dtype == "bool":
            scores = b.call("mx.where", mask, scores, float("-inf"))
        else:
            scores = b.call("operator.add", scores, b.cast(mask, scores.dtype))
    weights = b.call("mx.softmax", scores, axis=-1) if mask is None else safe_softmax(b, scores, -1)
    if dropout:
        weights = b.call("kit.dropout.dropout", weights, dropout, mode(b, True))
    return b.call("operator.matmul", weights, value)
