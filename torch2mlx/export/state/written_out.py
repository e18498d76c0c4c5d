"""Attention to what a cache holds that a program writes out, product by product, as the one call
that takes keys and values in any form: a bias of distances goes into its mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch2mlx.export.ir.nodes import Frame, Node, Program, is_call, learn, operands
from torch2mlx.export.passes.causal import ATTENTION
from torch2mlx.export.passes.rewrite import Rewriter


@dataclass(frozen=True)
class _Attention:
    """softmax(scale * queries @ keys.T + masks) @ values, all of them (B, H, L, D) or masks for
    it."""

    queries: Node
    keys: Node
    values: Node
    scale: float
    masks: tuple[Node, ...]


def with_calls(program: Program, tree: Any) -> Program:
    """The program with a call in the place of each attention that is written out; `tree` is the
    model's."""
    reader = _Reader(program, tree)
    found = {n: one for n in program.nodes if (one := reader.attention(n)) is not None}
    places = {node: i for i, node in enumerate(program.nodes)}
    later: dict[Node, list[tuple[Node, ...]]] = {}
    for masks in dict.fromkeys(one.masks for one in found.values() if len(one.masks) > 1):
        later.setdefault(max(masks, key=places.__getitem__), []).append(masks)
    sums: dict[tuple[Node, ...], Node] = {}

    def rule(r: Rewriter, node: Node) -> Any:
        old = r.old[node]
        if old in found:
            return _call(r, found[old], sums)
        if old not in later:
            return None
        r.builder.nodes.append(node)
        for masks in later[old]:
            r.builder.scope = _shared(masks)
            sums[masks] = _sum(r, masks)
        return node

    return Rewriter(program).run(rule)


def _call(r: Rewriter, one: _Attention, sums: Mapping[tuple[Node, ...], Node]) -> Node:
    known: dict[str, Any] = {"scale": one.scale}
    if one.masks:
        known["mask"] = sums[one.masks] if len(one.masks) > 1 else r.new(one.masks[0])
    return r.builder.call(ATTENTION, *map(r.new, (one.queries, one.keys, one.values)), **known)


def _sum(r: Rewriter, masks: tuple[Node, ...]) -> Node:
    total: Node = r.new(masks[0])
    for mask in masks[1:]:
        total = r.builder.call("operator.add", total, r.new(mask))
    learn(total, name="mask")
    return total


def _shared(masks: tuple[Node, ...]) -> tuple[Frame, ...]:
    """The innermost call that all masks are made in."""
    shared = masks[0].scope
    for mask in masks[1:]:
        same = [a == b for a, b in zip(shared, mask.scope, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return shared


class _Reader:
    """Finds attention in a program."""

    def __init__(self, program: Program, tree: Any) -> None:
        self._tree = tree
        self._reads: dict[Node, int] = {}
        for node in program.nodes:
            for read in operands(node):
                self._reads[read] = self._reads.get(read, 0) + 1

    def attention(self, node: Node) -> _Attention | None:
        """The attention whose result a node is; None of any other node."""
        product, heads = self._unmerged(node)
        if not is_call(product, "operator.matmul") or heads is None:
            return None
        weights, values = product.args[0], _apart(product.args[1], heads)
        scores = self._scores(weights)
        if scores is None or values is None or not _fetched(values):
            return None
        return self._products(scores, values, heads)

    def _unmerged(self, node: Node) -> tuple[Any, Any]:
        """The product behind a result (B, H, L, D), and its first two lengths."""
        if not node.is_array or node.ndim != 4:
            return None, None
        heads = _dims(node)[:2]
        if is_call(node, "method.reshape") and self._once(node.args[0]) and node.args[0].ndim == 3:
            same = _dims(node.args[0])[1:] == _dims(node)[2:]
            return (node.args[0], heads) if same else (None, None)
        return node, heads

    def _once(self, node: Any) -> bool:
        return isinstance(node, Node) and self._reads.get(node, 0) == 1

    def _scores(self, weights: Any) -> Node | None:
        """What a softmax over the last axis is taken of; only such dropout may follow it as drops
        nothing."""
        while self._once(weights) and (_reshaped(weights) or self._drops_none(weights)):
            weights = weights.args[-1] if weights.op == "layer" else weights.args[0]
        if not self._once(weights) or not is_call(weights, "mx.softmax"):
            return None
        last = weights.kwargs.get("axis") in (-1, weights.ndim - 1)
        scores: Node = weights.args[0]
        return scores if last and scores.dtype == weights.dtype and self._once(scores) else None

    def _drops_none(self, node: Node) -> bool:
        if not is_call(node, "layer"):
            return False
        twin = self._tree.stock(node.args[0].args[0])
        if twin is None or twin.path != "mlx.nn.Dropout":
            return False
        return bool(twin.arguments.get("p") == 0)

    def _products(self, scores: Any, values: Node, heads: Any) -> _Attention | None:
        """The attention of scores that are sums of a product and of masks."""
        masks: list[Node] = []
        scale = 1.0
        while not is_call(scores, "operator.matmul"):
            if not self._once(scores) or (scale != 1 and scores.op != "operator.mul"):
                return None
            if is_call(scores, "mx.addmm"):
                return self._scaled(scores, masks, values, heads)
            if is_call(scores, "operator.add"):
                scores, mask = self._term(scores)
                masks.append(mask)
            elif is_call(scores, "operator.mul") and isinstance(scores.args[1], float):
                scores, scale = scores.args[0], scale * scores.args[1]
            elif _reshaped(scores):
                scores = scores.args[0]
            else:
                return None
        return _made(scores.args, scale, masks, values, heads)

    def _scaled(
        self, total: Node, masks: list[Node], values: Node, heads: Any
    ) -> _Attention | None:
        """The attention whose product and first mask are one call."""
        if total.kwargs.get("beta", 1) != 1:
            return None
        scale = float(total.kwargs.get("alpha", 1))
        return _made(total.args[1:], scale, [*masks, total.args[0]], values, heads)

    def _term(self, total: Node) -> tuple[Any, Any]:
        """A sum of scores and a mask, in this order: what is read once more is the mask."""
        one, other = total.args
        return (one, other) if self._once(one) else (other, one)


def _made(
    factors: Any, scale: float, masks: list[Node], values: Node, heads: Any
) -> _Attention | None:
    queries, turned = factors
    last = isinstance(turned, Node) and is_call(turned, "method.transpose")
    axes = (*range(turned.ndim - 2), turned.ndim - 1, turned.ndim - 2) if last else ()
    if not last or tuple(turned.args[1:]) != axes:
        return None
    queries, keys = _apart(queries, heads), _apart(turned.args[0], heads)
    if queries is None or keys is None or not _fetched(keys):
        return None
    fitting = list(map(partial(_mask, heads=heads), masks))
    if any(m is None or m.dtype != values.dtype for m in fitting) or queries.dtype != values.dtype:
        return None
    return _Attention(queries, keys, values, scale, tuple(m for m in fitting if m is not None))


def _dims(node: Node) -> tuple[Any, ...]:
    return tuple(node.dims or node.shape)


def _reshaped(node: Node) -> bool:
    """Whether a node is a reshape that changes no more than the first axes."""
    return is_call(node, "method.reshape") and bool(node.shape[-2:] == node.args[0].shape[-2:])


def _apart(value: Any, heads: Any) -> Node | None:
    """(B, H, L, D) of what may have its first two axes as one."""
    if is_call(value, "method.reshape") and value.ndim == 3:
        value = value.args[0]
    if not isinstance(value, Node) or not value.is_array or value.ndim != 4:
        return None
    return value if _dims(value)[:2] == heads else None


def _fetched(node: Node) -> bool:
    """Whether keys or values are what a cache gave."""
    return is_call(node, "item") and is_call(node.args[0], "method.update_and_fetch")


def _mask(value: Any, heads: Any) -> Node | None:
    """A mask for scores (B, H, L, S): of what has the first two axes as one, the part before it
    was so; without the axis of the batch, where all sequences have the same."""
    if not isinstance(value, Node) or not value.is_array:
        return None
    for made in _behind(value):
        if made.ndim == 4 and all(
            n in (1, wide) for n, wide in zip(_dims(made), heads, strict=False)
        ):
            return made
    return value if value.ndim == 4 else None


def _behind(value: Node) -> Iterator[Node]:
    """A value that is repeated or joined, without that."""
    steps = []
    while value.op in ("mx.broadcast_to", "method.flatten", "method.reshape"):
        inner = value.args[0]
        if value.op != "mx.broadcast_to" and (inner.ndim, value.ndim) != (4, 3):
            break
        value = inner
        steps.append(value)
    yield from reversed(steps)


__all__ = ["with_calls"]
