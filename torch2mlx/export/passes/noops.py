"""Calls that change nothing go; transposes and new axes in a row become one."""

from __future__ import annotations

import math
from typing import Any

from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.export.passes.rewrite import Rewriter, Rule


def without_noops(program: Program) -> Program:
    """The program without x + 0, x * 1, broadcasts to one's own shape, and the like."""
    return Rewriter(program).run(_rule)


def _rule(r: Rewriter, node: Node) -> Any:
    rule = _RULES.get(node.op)
    return rule(r, node) if rule is not None else None


def _number(value: Any, wanted: int) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == wanted


def _kept(node: Node, x: Any) -> Any:
    """x when it has the node's shape and dtype."""
    same = isinstance(x, Node) and x.is_array and x.shape == node.shape and x.dtype == node.dtype
    return x if same and _dims(x) == _dims(node) else None


def _dims(node: Node) -> Any:
    return node.dims if node.dims is not None else node.shape


def _broadcasts(r: Rewriter, node: Node) -> Any:
    """Arithmetic with a vector that was given axes of one item before its own, which MLX gives it
    by itself: x * w.reshape(1, 1, 1, n) is x * w."""
    x, y = node.args
    for one, other in ((x, y), (y, x)):
        inner = _plain_vector(one)
        if inner is None or not isinstance(other, Node) or not other.is_array:
            continue
        if other.ndim >= one.ndim and other.shape[-1] == one.shape[-1]:
            args = (x, inner) if one is y else (inner, y)
            return r.builder.call(node.op, *args)
    return None


def _plain_vector(value: Any) -> Node | None:
    """The vector within v.reshape(1, ..., n), where n is its length."""
    if not isinstance(value, Node) or value.op != "method.reshape":
        return None
    inner = value.args[0]
    ahead = all(n == 1 and isinstance(n, int) for n in value.args[1:-1])
    whole = inner.ndim == 1 and value.args[-1] in (inner.shape[0], -1)
    return inner if ahead and whole else None


def _add(r: Rewriter, node: Node) -> Any:
    x, y = node.args
    exact = isinstance(node.value, int) or (node.is_array and "int" in node.dtype)
    if _number(y, 0) and exact:
        return x if not node.is_array else _kept(node, x)
    if _number(x, 0) and exact:
        return y if not node.is_array else _kept(node, y)
    return None


def _sub(r: Rewriter, node: Node) -> Any:
    x, y = node.args
    return _kept(node, x) if _number(y, 0) and node.is_array else None


def _mul(r: Rewriter, node: Node) -> Any:
    x, y = node.args
    if _number(y, 1):
        return x if not node.is_array else _kept(node, x)
    if _number(x, 1):
        return y if not node.is_array else _kept(node, y)
    return None


def _div(r: Rewriter, node: Node) -> Any:
    x, y = node.args
    return _kept(node, x) if _number(y, 1) and node.is_array else None


def _and(r: Rewriter, node: Node) -> Any:
    for x, y in (node.args, node.args[::-1]):
        if (
            isinstance(x, Node)
            and x.op in ("mx.ones", "mx.ones_like")
            and x.dtype in ("bool", "bool_")
        ):
            found = _kept(node, y)
            if found is not None:
                return found
    return None


def _broadcast(r: Rewriter, node: Node) -> Any:
    x = node.args[0]
    if isinstance(x, Node) and _dims(x) == _dims(node):
        return _kept(node, x)
    if isinstance(x, Node) and x.op == "mx.broadcast_to" and r.single(x):
        made = r.builder.call("mx.broadcast_to", x.args[0], node.args[1])
        return made
    return None


def _cast(r: Rewriter, node: Node) -> Any:
    return _kept(node, node.args[0])


def _stop(r: Rewriter, node: Node) -> Any:
    x = node.args[0]
    return x if isinstance(x, Node) and x.op == "mx.stop_gradient" else None


def _transpose(r: Rewriter, node: Node) -> Any:
    x, axes = node.args[0], node.args[1:]
    if x.op == "method.transpose":
        inner = x.args[1:]
        return r.builder.transpose(x.args[0], [inner[a] for a in axes])
    return x if tuple(axes) == tuple(range(x.ndim)) else None


def _expand(r: Rewriter, node: Node) -> Any:
    """New axes as an index: x[:, None]; several in a row as one."""
    x, axis = node.args
    axis = axis % node.ndim
    where = [slice(None)] * axis + [None]
    if x.op == "index" and all(w is None or w == slice(None) for w in x.args[1]) and r.single(x):
        inner = list(x.args[1])
        inner += [slice(None)] * (x.ndim - len(inner))
        inner.insert(axis, None)
        while inner and inner[-1] == slice(None):
            inner.pop()
        return r.builder.call("index", x.args[0], tuple(inner))
    return r.builder.call("index", x, tuple(where))


def _reshape(r: Rewriter, node: Node) -> Any:
    x, shape = node.args[0], node.args[1:]
    found = _kept(node, x)
    if found is not None and node.dims is not None:
        return found
    if x.op == "method.reshape" and shape and r.single(x) and _as_strict(x.args[1:], shape):
        return r.builder.call("method.reshape", x.args[0], *shape)
    return None


def _as_strict(first: tuple[Any, ...], last: tuple[Any, ...]) -> bool:
    """Whether the last of two reshapes in a row refuses all that the first one refuses: it leaves
    no length open, or one of what the first left open, in whole blocks."""
    if -1 not in last:
        return True
    lengths = [n for n in (*first, *last) if isinstance(n, int)]
    if -1 not in first or len(lengths) != len(first) + len(last):
        return False
    return int(math.prod(last) % math.prod(first)) == 0


def _either(rule: Rule) -> Rule:
    """A rule of arithmetic, and what holds for all of it."""

    def both(r: Rewriter, node: Node) -> Any:
        found = rule(r, node)
        return _broadcasts(r, node) if found is None and node.is_array else found

    return both


_RULES = {
    "operator.add": _either(_add),
    "operator.sub": _either(_sub),
    "operator.mul": _either(_mul),
    "operator.truediv": _either(_div),
    "operator.and_": _and,
    "mx.broadcast_to": _broadcast,
    "method.astype": _cast,
    "mx.stop_gradient": _stop,
    "method.transpose": _transpose,
    "mx.expand_dims": _expand,
    "method.reshape": _reshape,
}
