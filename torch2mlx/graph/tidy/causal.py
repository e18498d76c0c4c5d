"""A mask built from positions that lets every query see what is before it: MLX's "causal"."""

from __future__ import annotations

from typing import Any

import numpy as np

from torch2mlx.graph.ir import Node, Program
from torch2mlx.graph.tidy import shapes_only
from torch2mlx.graph.tidy.rewrite import Rewriter

ATTENTION = "mx.fast.scaled_dot_product_attention"


def with_causal_masks(program: Program) -> Program:
    """The program with mask="causal", or none, where the formula always comes to that."""
    known: dict[Node, str | None] = {}

    def rule(r: Rewriter, node: Node) -> Any:
        mask = node.kwargs.get("mask") if node.op == ATTENTION else None
        if not isinstance(mask, Node):
            return None
        if mask not in known:
            known[mask] = _kind(mask)
        if known[mask] is None:
            return None
        kwargs = {key: value for key, value in node.kwargs.items() if key != "mask"}
        if known[mask] == "causal":
            kwargs["mask"] = "causal"
        return r.builder.call(node.op, *node.args, **kwargs)

    return Rewriter(program).run(rule)


def _kind(mask: Node) -> str | None:
    """ "causal", "all" when every pair may see each other, None when it is neither."""
    nodes = shapes_only.cone(mask)
    if nodes is None or mask.ndim < 2 or shapes_only.too_large(nodes):
        return None
    symbols = shapes_only.symbols(nodes)
    if symbols is None:
        return None
    kinds = set()
    for length in shapes_only.lengths(nodes) if symbols else (0,):
        try:
            kinds.add(_compared(mask, {symbol: length for symbol in symbols}))
        except (ValueError, IndexError, RuntimeError):  # the formula takes no such length
            return None
        if len(kinds - {"both"}) > 1 or None in kinds:
            return None
    kinds.discard("both")  # of one position, nothing tells them apart
    return kinds.pop() if len(kinds) == 1 else None


def _compared(mask: Node, sizes: dict[str, int]) -> str | None:
    batches = {symbol: 2 for symbol in sizes}
    value = shapes_only.computed(mask, _batch_small(mask, sizes, batches))
    rows, columns = value.shape[-2:]
    square = rows == columns
    allowed = value if value.dtype == bool else value == 0
    if value.dtype != bool and not np.all(allowed | (value <= -1e9)):
        return None
    full, lower = bool(allowed.all()), bool((allowed == np.tri(rows, columns, dtype=bool)).all())
    if full:
        return "both" if square and rows == 1 else "all"
    return "causal" if square and lower else None


def _batch_small(mask: Node, sizes: dict[str, int], batches: dict[str, int]) -> dict[str, int]:
    """Lengths for the last two axes; two for the others, which only repeat."""
    dims = mask.dims or mask.shape
    lengths = {dim for dim in dims[-2:] if isinstance(dim, str)}
    return {s: n if s in lengths or not lengths else batches[s] for s, n in sizes.items()}
