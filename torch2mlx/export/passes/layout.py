"""Channels stay last: a transpose back to torch's layout sinks through what does not mind it.

A node "is a transpose" when it is `x.transpose(axes)`. Elementwise calls of transposes of one order
become the transpose of the call; reductions, slices, joins and the like have their axes renamed.
What meets the opposite transpose disappears with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.catalog.functions.layout import itemwise_calls
from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.export.passes.rewrite import Rewriter

#: Calls over axes that are given as numbers.
REDUCING = {
    *(f"kit.kinks.{n}" for n in ("largest", "smallest")),
    *(f"kit.moments.{n}" for n in ("total", "mean", "var", "std")),
    *(f"mx.{n}" for n in ("mean", "sum", "max", "min", "var", "std", "any", "all", "logsumexp")),
}


def channels_last(program: Program) -> Program:
    """The program with transposes as late as they can be."""
    return Rewriter(program).run(_rule)


def _rule(r: Rewriter, node: Node) -> Any:
    if node.op in itemwise_calls():
        return _alike(r, node)
    if node.op in REDUCING:
        return _reducing(r, node)
    rule = _RULES.get(node.op)
    if rule is not None:
        return rule(r, node)
    if node.op == "layer" and _same_layout(r, node):
        return _through_layer(r, node)
    return None


def channels_first(value: Any) -> tuple[int, ...] | None:
    """The order of a transpose from channels last to channels first, None of anything else."""
    if isinstance(value, Node) and value.op == "method.transpose":
        order = tuple(value.args[1:])
        return order if order == (0, len(order) - 1, *range(1, len(order) - 1)) else None
    return None


def _inverse(axes: Sequence[int]) -> list[int]:
    return [list(axes).index(i) for i in range(len(axes))]


def _viewed(r: Rewriter, node: Node) -> Any:
    """Bits read as another dtype of the same width."""
    return _alike(r, node) if node.shape == node.args[0].shape else None


def _merged(r: Rewriter, node: Node) -> Any:
    """Two transposes in a row."""
    axes, inner = tuple(node.args[1:]), node.args[0].args[1:]
    if node.args[0].op != "method.transpose":
        return None
    return r.builder.transpose(node.args[0].args[0], [inner[a] for a in axes])


def _alike(r: Rewriter, node: Node) -> Any:
    order = next((axes for axes in map(channels_first, node.args) if axes is not None), None)
    if order is None or any(isinstance(v, Node) for v in node.kwargs.values()):
        return None
    sunk = [_sunk(r, value, order) for value in node.args]
    if any(value is _CANNOT for value in sunk):
        return None
    return r.builder.transpose(r.builder.call(node.op, *sunk, **node.kwargs), order)


_CANNOT = object()


def _sunk(r: Rewriter, value: Any, order: tuple[int, ...]) -> Any:
    """An operand as it is before the transpose, when that costs nothing."""
    if not isinstance(value, Node) or not value.is_array or value.ndim == 0:
        return value
    if channels_first(value) == order:
        return value.args[0]
    grown = _grown(r, value, order)
    if grown is not None:
        return grown
    if value.ndim == len(order) and _spread(value) <= 1:
        return r.builder.transpose(value, _inverse(order))
    if value.ndim < len(order) and value.shape.count(1) == value.ndim:
        return r.builder.reshape(value, ())
    return _CANNOT


def _grown(r: Rewriter, value: Node, order: tuple[int, ...]) -> Node | None:
    """x[:, :, None, None] with its new axes where channels last has them: x[:, None, None]."""
    if value.op != "index" or value.ndim != len(order):
        return None
    where = [*value.args[1], *[slice(None)] * (value.ndim - len(value.args[1]))]
    if any(w is not None and w != slice(None) for w in where):
        return None
    count = iter(range(len(where)))
    axes = [None if w is None else next(count) for w in where]
    turned = [axes[i] for i in _inverse(order)]
    kept = [axis for axis in turned if axis is not None]
    if kept != sorted(kept):
        return None
    places: list[Any] = [None if axis is None else slice(None) for axis in turned]
    while places and places[-1] == slice(None):
        places.pop()
    return r.builder.index(value.args[0], *places)


def _spread(value: Node) -> int:
    """How many axes of an array are longer than one."""
    return sum(n != 1 for n in (value.dims or value.shape))


def _reducing(r: Rewriter, node: Node) -> Any:
    x = node.args[0]
    order, axis = channels_first(x), node.kwargs.get("axis")
    if order is None:
        return None
    if axis is None:
        return (
            None
            if node.kwargs.get("keepdims")
            else r.builder.call(node.op, x.args[0], **node.kwargs)
        )
    axes = [axis] if isinstance(axis, int) else list(axis)
    moved = sorted(order[a % x.ndim] for a in axes)
    kwargs = {**node.kwargs, "axis": moved[0] if len(moved) == 1 else tuple(moved)}
    reduced = r.builder.call(node.op, x.args[0], **kwargs)
    if node.kwargs.get("keepdims"):
        return r.builder.transpose(reduced, order)
    gone = {a % x.ndim for a in axes}
    left = [order[i] for i in range(x.ndim) if i not in gone]
    ranks = sorted(left)
    return r.builder.transpose(reduced, [ranks.index(a) for a in left])


def _concatenate(r: Rewriter, node: Node) -> Any:
    orders = {channels_first(x) for x in node.args[0]}
    order = next(iter(orders))
    if len(orders) != 1 or order is None:
        return None
    axis = order[node.kwargs.get("axis", 0) % len(order)]
    inner = tuple(x.args[0] for x in node.args[0])
    last = len(order) - 1
    joined = r.builder.call("mx.concatenate", inner, axis=-1 if axis == last else axis)
    return r.builder.transpose(joined, order)


def _index(r: Rewriter, node: Node) -> Any:
    """Slices of a transpose: the same slices of what it turns."""
    x, where = node.args
    order = channels_first(x)
    if order is None or any(not isinstance(w, slice) for w in where):
        return None
    moved: list[Any] = [slice(None)] * x.ndim
    for i, part in enumerate(where):
        moved[order[i]] = part
    while moved and moved[-1] == slice(None):
        moved.pop()
    return r.builder.transpose(r.builder.index(x.args[0], *moved), order)


def _softmax(r: Rewriter, node: Node) -> Any:
    order = channels_first(node.args[0])
    if order is None or not isinstance(node.kwargs.get("axis"), int):
        return None
    axis = order[node.kwargs["axis"] % len(order)]
    return r.builder.transpose(r.builder.call(node.op, node.args[0].args[0], axis=axis), order)


def _pad(r: Rewriter, node: Node) -> Any:
    order = channels_first(node.args[0])
    if order is None:
        return None
    widths: list[Any] = [None] * len(order)
    for i, pair in enumerate(node.args[1]):
        widths[order[i]] = pair
    padded = r.builder.call("mx.pad", node.args[0].args[0], tuple(widths), **node.kwargs)
    return r.builder.transpose(padded, order)


def _same_layout(r: Rewriter, node: Node) -> bool:
    """Whether a layer treats all items alike: an activation, dropout."""
    single = len(node.args) == 2 and not node.kwargs and node.is_array
    return single and node.args[0].value == "elementwise"


def _through_layer(r: Rewriter, node: Node) -> Any:
    callee, x = node.args
    order = channels_first(x)
    if order is None:
        return None
    made = Node("layer", (callee, x.args[0]), {}, x.args[0].value)
    return r.builder.transpose(r.builder.add(made), order)


def _squeeze(r: Rewriter, node: Node) -> Any:
    """Axes of one that go: those that are left keep their order, or turn."""
    x = node.args[0]
    order = channels_first(x)
    if order is None:
        return None
    gone = node.args[1]
    gone = {gone % x.ndim} if isinstance(gone, int) else {a % x.ndim for a in gone}
    inner = tuple(sorted(order[a] for a in gone))
    squeezed = r.builder.call("method.squeeze", x.args[0], inner[0] if len(inner) == 1 else inner)
    left = [order[i] for i in range(x.ndim) if i not in gone]
    ranks = sorted(left)
    return r.builder.transpose(squeezed, [ranks.index(a) for a in left])


def _flatten(r: Rewriter, node: Node) -> Any:
    """Flattening where only one axis is longer than one: no order to keep."""
    x = node.args[0]
    order = channels_first(x)
    if order is None:
        return None
    start = node.args[1] if len(node.args) > 1 else 0
    end = node.args[2] % x.ndim if len(node.args) > 2 else x.ndim - 1
    dims = x.dims or x.shape
    moving = [order[i] for i in range(start, end + 1) if dims[i] != 1]
    before = [order[i] for i in range(start)]
    if before == list(range(start)) and moving == sorted(moving) and end == x.ndim - 1:
        return r.builder.call(node.op, x.args[0], *node.args[1:])
    return None


_RULES = {
    "method.transpose": _merged,
    "mx.concatenate": _concatenate,
    "index": _index,
    "mx.softmax": _softmax,
    "mx.view": _viewed,
    "mx.pad": _pad,
    "method.squeeze": _squeeze,
    "method.flatten": _flatten,
}
