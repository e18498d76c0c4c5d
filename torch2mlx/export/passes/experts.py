"""Mixtures of experts: rows that were sorted by their expert need no counting of the groups, and go
back to their places by the order of their order."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, is_call
from torch2mlx.export.passes.rewrite import Rewriter

#: Calls that leave numbers of experts what they are.
_MOVING = ("method.astype", "method.reshape", "mx.stop_gradient")


def with_sorted_rows(program: Program) -> Program:
    """The program with products of sorted rows, where the ends of the groups are those that were
    counted of sorted numbers of experts; and with MLX's own functions of an order."""
    rules = {
        "kit.moe.grouped_mm": _product,
        "kit.indexing.assign": _inverse,
        "kit.division.whole_floor": _row,
    }

    def rule(r: Rewriter, node: Node) -> Any:
        return rules[node.op](r, node) if node.op in rules else None

    return Rewriter(program).run(rule)


def _product(r: Rewriter, node: Node) -> Any:
    x, weight, ends = node.args
    experts = _counted(ends, weight.shape[0])
    return experts and r.builder.call("kit.moe.sorted_mm", x, weight, experts)


def _inverse(r: Rewriter, node: Node) -> Any:
    """The places that an order was made of: zeros with 0, 1, 2, ... put where the order says."""
    base, where, values = node.args
    if len(where) != 1 or not _is_order(where[0]) or not is_call(base, "mx.zeros_like"):
        return None
    order = where[0]
    counted = is_call(values, "mx.arange") and len(values.args) == 1 and order.ndim == 1
    if not counted or values.shape != order.shape or values.dtype != node.dtype:
        return None
    return r.builder.cast(r.builder.call("mx.argsort", order), node.dtype)


def _row(r: Rewriter, node: Node) -> Any:
    """order // n: nothing in an order is below zero."""
    order, count = node.args
    if is_call(count, "mx.array"):
        count = count.args[0]
    if not _is_order(order) or not isinstance(count, int) or count < 1:
        return None
    return r.builder.call("operator.floordiv", order, count)


def _is_order(value: Any) -> bool:
    """Whether a value is the order of what was sorted: each place once."""
    return (
        is_call(value, "item") and value.args[1] == 1 and is_call(value.args[0], "kit.sorting.sort")
    )


def _counted(ends: Any, count: int) -> Node | None:
    """The sorted numbers, all from 0 to `count` - 1, of cumsum(histc(numbers, count))."""
    if not is_call(ends, "mx.cumsum") or ends.kwargs not in ({}, {"axis": 0}):
        return None
    counts = _unmoved(ends.args[0])
    if not is_call(counts, "kit.sorting.histc") or counts.args[1:] != (count, 0, count - 1):
        return None
    found = _unmoved(counts.args[0])
    if (
        not is_call(found, "item")
        or found.args[1] != 0
        or not is_call(found.args[0], "kit.sorting.sort")
    ):
        return None
    numbers, *options = found.args[0].args
    upwards = options in ([-1], [-1, False], [0], [0, False])
    return found if upwards and _is_chosen_of(_unmoved(numbers), count) else None


def _is_chosen_of(numbers: Any, count: int) -> bool:
    """Whether numbers are places in rows of `count` items."""
    if is_call(numbers, "mx.concatenate"):
        return all(_is_chosen_of(_unmoved(part), count) for part in numbers.args[0])
    if is_call(numbers, "mx.argmax"):
        places = numbers.kwargs.get("axis") in (-1, numbers.args[0].ndim - 1)
        return places and len(numbers.args) == 1 and numbers.args[0].shape[-1] == count
    if not is_call(numbers, "item") or numbers.args[1] != 1:
        return False
    chosen = numbers.args[0]
    return is_call(chosen, "kit.sorting.topk") and chosen.args[0].shape[-1] == count


def _unmoved(value: Any) -> Any:
    while isinstance(value, Node) and value.op in _MOVING:
        value = value.args[0]
    return value
