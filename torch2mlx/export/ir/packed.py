"""Packed sequences in the intermediate form: a call gives one, and its parts are read from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node, operands

_FIELDS = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")


def fields(b: Builder, sequence: Node) -> tuple[Any, ...]:
    """The parts of a packed sequence; None for orders that it has not."""
    parts = zip(_FIELDS, sequence.value, strict=True)
    return tuple(None if v is None else b.call(f"attribute.{n}", sequence) for n, v in parts)


def is_packed(value: Any) -> bool:
    """Whether a value is a packed sequence."""
    return isinstance(value, tuple) and getattr(value, "_fields", None) == _FIELDS


def whole(b: Builder, parts: Sequence[Any]) -> Node:
    """The packed sequence of four parts: the one that they were read from, or that one with other
    items, or one of its own."""
    data, *orders = parts
    if _read(data, "data") and _ordered_as(data.args[0], orders):
        source: Node = data.args[0]
        return source
    held = next((o.args[0] for o, n in zip(orders, _FIELDS[1:], strict=True) if _read(o, n)), None)
    if held is not None and _ordered_as(held, orders):
        return b.call("method._replace", held, data=data)
    given = list(parts)
    while given[-1] is None:
        given.pop()
    return b.call("kit.packed.PackedSequence", *given)


def _read(part: Any, name: str) -> bool:
    return isinstance(part, Node) and part.op == f"attribute.{name}"


def _ordered_as(sequence: Node, orders: Sequence[Any]) -> bool:
    """Whether these are the batch sizes and the orders of a packed sequence."""
    first = _packing(sequence)
    own = first.args if first.op == "kit.packed.PackedSequence" else ()

    def same(i: int, order: Any) -> bool:
        if order is None:
            return first.value[i] is None
        if _read(order, _FIELDS[i]):
            return _packing(order.args[0]) is first
        return i < len(own) and own[i] is order

    return all(same(i, order) for i, order in enumerate(orders, 1))


def _packing(node: Node) -> Node:
    """What packed a sequence: the one that a recurrent layer gives, or that has other items, is
    packed as the one before."""
    while node.op in ("item", "method._replace"):
        whole = node.args[0] if node.op == "item" else node
        found = next((n for n in operands(whole) if is_packed(n.value)), None)
        if found is None:
            break
        node = found
    return node
