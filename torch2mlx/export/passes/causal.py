"""A mask built from positions that lets every query see what is before it: MLX's "causal"; and
masks that leave every query something to see, for which MLX's attention is torch's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.export.passes import shapes_only
from torch2mlx.export.passes.rewrite import Rewriter

ATTENTION = "mx.fast.scaled_dot_product_attention"
#: The same for masks that may bar a whole row.
CAREFUL = "kit.attention.scaled_dot_product_attention"


def with_causal_masks(program: Program) -> Program:
    """The program with mask="causal", or none, where the formula always comes to that."""
    known: dict[Node, str | None] = {}

    def rule(r: Rewriter, node: Node) -> Any:
        mask = node.kwargs.get("mask") if node.op in (ATTENTION, CAREFUL) else None
        if not isinstance(mask, Node):
            return None
        if mask not in known:
            known[mask] = _kind(mask)
        if known[mask] is None:
            return None
        kwargs = {key: value for key, value in node.kwargs.items() if key != "mask"}
        if known[mask] != "all":
            kwargs["mask"] = "causal" if known[mask] == "causal" else mask
        return r.builder.call(ATTENTION, *node.args, **kwargs)

    return Rewriter(program).run(rule)


#: Calls that only move what they get.
_MOVING = ("index", "method.reshape", "mx.broadcast_to", "mx.expand_dims", "method.transpose")


def _finite(value: Any, depth: int = 30) -> bool:
    """Whether a mask to add holds no infinity, whatever comes in: then it bars no row."""
    if not isinstance(value, Node):
        return isinstance(value, (int, float)) and np.isfinite(value)
    if not value.is_array or "float" not in value.dtype:
        return True
    if not depth or not value.args:
        return False
    again = partial(_finite, depth=depth - 1)
    if value.op in (*_MOVING, "method.astype", "mx.stop_gradient"):
        return again(value.args[0])
    if value.op in ("operator.add", "operator.sub", "operator.mul"):
        return all(map(again, value.args))
    if value.op in ("mx.where", "mx.full", "mx.array", "mx.zeros"):
        first = {"mx.where": 1, "mx.full": 1, "mx.array": 0, "mx.zeros": len(value.args)}[value.op]
        return all(
            map(again, value.args[first : first + 2 if value.op == "mx.where" else first + 1])
        )
    return False


def _kind(mask: Node) -> str | None:
    """ "causal", "all" when every pair may see each other, "some" when every row has something to
    see, None when neither is known."""
    nodes = shapes_only.cone(mask)
    fallback = "some" if "float" in mask.dtype and _finite(mask) else None
    if nodes is None or mask.ndim < 2 or shapes_only.too_large(nodes):
        return fallback
    symbols = shapes_only.symbols(nodes)
    if symbols is None:
        return fallback
    kinds = set()
    for length in shapes_only.lengths(nodes) if symbols else (0,):
        try:
            for sizes in _sizes(symbols, length):
                kinds.add(_compared(mask, sizes))
        except (ValueError, IndexError, RuntimeError):  # the formula takes no such length
            return fallback
        if None in kinds:
            return fallback
    kinds.discard("both")  # of one position, nothing tells them apart
    return kinds.pop() if len(kinds) == 1 else "some" if kinds else fallback


def _sizes(symbols: set[str], length: int) -> Iterator[dict[str, int]]:
    """All of one length; and each longer than the others, as queries and keys may be."""
    yield dict.fromkeys(symbols, length)
    if len(symbols) > 1:
        for longer in symbols:
            yield {symbol: length + 3 * (symbol == longer) for symbol in symbols}


def _compared(mask: Node, sizes: dict[str, int]) -> str | None:
    batches = {symbol: 2 for symbol in sizes}
    value = shapes_only.computed(mask, _batch_small(mask, sizes, batches))
    rows, columns = value.shape[-2:]
    earlier = max(0, columns - rows)  # keys before the first query's, as MLX counts
    allowed = value if value.dtype == bool else value == 0
    some = "some" if np.all((value if value.dtype == bool else value > -np.inf).any(-1)) else None
    if value.dtype != bool and not np.all(allowed | (value <= -1e9)):
        return some
    full = bool(allowed.all())
    lower = bool((allowed == np.tri(rows, columns, earlier, dtype=bool)).all())
    if full:
        return "both" if lower else "all"
    return "causal" if lower else some


def _batch_small(mask: Node, sizes: dict[str, int], batches: dict[str, int]) -> dict[str, int]:
    """Lengths for the last two axes; two for the others, which only repeat."""
    dims = mask.dims or mask.shape
    lengths = set().union(*map(shapes_only.named_in, dims[-2:]))
    return {s: n if s in lengths or not lengths else batches[s] for s, n in sizes.items()}
