"""Chains that mx.fast has one call for: root mean square norms, repeated heads of attention."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, is_call
from torch2mlx.export.passes.rewrite import Rewriter


def with_fast(program: Program) -> Program:
    """The program with mx.fast where a chain of calls computes the same."""
    program = Rewriter(program).run(_norm)
    program = Rewriter(program).run(_scaled_norm)
    return Rewriter(program).run(_attention)


def _norm(r: Rewriter, node: Node) -> Any:
    """x * rsqrt(mean(x * x) + eps) over the last axis."""
    if node.op == "operator.truediv":
        x, root = node.args
        parts = _mean_square(root.args[0]) if is_call(root, "mx.sqrt") else None
    elif node.op == "operator.mul":
        x, root = node.args if is_call(node.args[1], "mx.rsqrt") else node.args[::-1]
        parts = _mean_square(root.args[0]) if is_call(root, "mx.rsqrt") else None
    else:
        return None
    if parts is None or parts[0] is not x or not isinstance(x, Node) or x.dtype != node.dtype:
        return None
    return r.builder.call("mx.fast.rms_norm", x, None, parts[1])


def _mean_square(total: Any) -> tuple[Node, float] | None:
    """(x, eps) of mean(x ** 2, last axis, kept) + eps."""
    if not is_call(total, "operator.add"):
        return None
    mean, eps = total.args if isinstance(total.args[1], float) else total.args[::-1]
    if not isinstance(eps, float) or not is_call(mean, "mx.mean"):
        return None
    square, options = mean.args[0], mean.kwargs
    last = isinstance(square, Node) and options.get("axis") in (-1, square.ndim - 1)
    if not last or not options.get("keepdims"):
        return None
    if square.op == "mx.square":
        return square.args[0], eps
    if square.op == "operator.mul" and square.args[0] is square.args[1]:
        return square.args[0], eps
    return None


def _scaled_norm(r: Rewriter, node: Node) -> Any:
    """weight * norm(x): the weight goes into the call."""
    if node.op != "operator.mul":
        return None
    for weight, norm in (node.args, node.args[::-1]):
        if not is_call(norm, "mx.fast.rms_norm") or norm.args[1] is not None or not r.single(norm):
            continue
        fits = isinstance(weight, Node) and weight.is_array and weight.ndim == 1
        if fits and weight.shape[0] == norm.shape[-1] and weight.dtype == norm.dtype == node.dtype:
            return r.builder.call("mx.fast.rms_norm", norm.args[0], weight, norm.args[2])
    return None


def _attention(r: Rewriter, node: Node) -> Any:
    """Keys and values repeated for groups of queries: the call does that itself."""
    if node.op.rpartition(".")[2] != "scaled_dot_product_attention":
        return None
    query, key, value = node.args
    few, fewer = _unrepeated(key), _unrepeated(value)
    if few is None or fewer is None or few.shape[1] != fewer.shape[1]:
        return None
    return r.builder.call(node.op, query, few, fewer, **node.kwargs)


def _unrepeated(x: Any) -> Node | None:
    """(B, h, L, D) of a chain that repeats each head: reshape(broadcast(x[:, :, None]))."""
    if is_call(x, "mx.repeat") and x.kwargs.get("axis") in (1, -3):
        repeated: Node = x.args[0]
        return repeated
    if not is_call(x, "method.reshape") or not is_call(x.args[0], "mx.broadcast_to"):
        return None
    grown = x.args[0].args[0]
    if not is_call(grown, "index") or tuple(grown.args[1]) != (slice(None), slice(None), None):
        return None
    inner = grown.args[0]
    wide = x.args[0].shape
    kept = inner.ndim == 4 and wide[:2] == inner.shape[:2] and wide[3:] == inner.shape[2:]
    heads = kept and x.shape == (wide[0], wide[1] * wide[2], *wide[3:])
    return inner if heads else None
