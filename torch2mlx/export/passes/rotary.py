"""Rotary embeddings: x * cos + rotate_half(x) * sin becomes mx.fast.rope.

Only where cos and sin are seen to be those of positions from zero times fixed frequencies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.export.passes import shapes_only
from torch2mlx.export.passes.rewrite import Rewriter


def with_rope(program: Program, constants: Any) -> Program:
    """The program with mx.fast.rope; `constants` has the arrays of constant nodes."""

    def rule(r: Rewriter, node: Node) -> Any:
        return _rope(r, node, constants) if node.op == "operator.add" else None

    return Rewriter(program).run(rule)


def _rope(r: Rewriter, node: Node, constants: Any) -> Any:
    """x * cos + rotated * sin, of x (B, heads, L, D)."""
    if not node.is_array or node.ndim != 4 or not all(_is(v, "operator.mul") for v in node.args):
        return None
    for straight, turned in (node.args, node.args[::-1]):
        for x, cos in (straight.args, straight.args[::-1]):
            for half, sin in (turned.args, turned.args[::-1]):
                if _is_half_of(half, x):
                    found = _frequencies(cos, sin, constants)
                    if found is not None and 2 * len(found) == x.shape[-1]:
                        return _placed(r, x, cos, found)
    return None


def _is(value: Any, op: str) -> bool:
    return isinstance(value, Node) and value.op == op


def _is_half_of(half: Any, x: Any) -> bool:
    """concatenate([-x[..., d/2:], x[..., :d/2]], -1)."""
    if not _is(half, "mx.concatenate") or half.kwargs.get("axis") not in (-1, half.ndim - 1):
        return False
    parts = half.args[0]
    if len(parts) != 2 or not _is(parts[0], "operator.neg") or not isinstance(x, Node):
        return False
    middle = x.shape[-1] // 2
    return _part(parts[0].args[0], x) == (middle, None) and _part(parts[1], x) == (None, middle)


def _part(value: Any, x: Node) -> tuple[Any, Any] | None:
    """(start, stop) of a slice of x's last axis; also of a transpose of it."""
    if _is(value, "item") and _is(value.args[0], "mx.split") and value.args[0].args[0] is x:
        middle = x.shape[-1] // 2
        return ((None, middle), (middle, None))[value.args[1]]
    turned = _is(value, "method.transpose") and _is(x, "method.transpose")
    if turned and value.args[1:] == x.args[1:] and x.args[-1] == x.ndim - 1:
        return _part(value.args[0], x.args[0])
    if not _is(value, "index") or value.args[0] is not x or len(value.args[1]) != x.ndim:
        return None
    *before, last = value.args[1]
    whole = all(w == slice(None) for w in before) and isinstance(last, slice)
    return (last.start, last.stop) if whole and last.step is None else None


def _frequencies(cos: Any, sin: Any, constants: Any) -> Any:
    """The frequencies f of cos(position * f) and sin(position * f), positions from zero."""
    first, second = _angle(cos, "mx.cos"), _angle(sin, "mx.sin")
    if first is None or first is not second:
        return None
    return _of_angle(first, constants)


def _angle(value: Any, op: str) -> Node | None:
    """The argument of cos or sin, under new axes and casts."""
    while isinstance(value, Node) and value.op in ("index", "method.astype", "mx.stop_gradient"):
        if value.op == "index" and any(w is not None and w != slice(None) for w in value.args[1]):
            return None
        value = value.args[0]
    return value.args[0] if _is(value, op) else None


def _of_angle(angle: Any, constants: Any) -> Any:
    """f of concatenate([p * f, p * f]) with p the positions as a column."""
    if not _is(angle, "mx.concatenate") or len(set(map(id, angle.args[0]))) != 1:
        return None
    if len(angle.args[0]) != 2 or angle.kwargs.get("axis") not in (-1, angle.ndim - 1):
        return None
    product = angle.args[0][0]
    if _is(product, "method.transpose"):
        product = product.args[0] if product.args[-2:] == (2, 1) else product
    if not (_is(product, "operator.mul") or _is(product, "operator.matmul")):
        return None
    for positions, fixed in (product.args, product.args[::-1]):
        values = _constant(fixed, constants)
        if values is not None and _from_zero(positions):
            return values.reshape(-1)
    return None


def _constant(value: Any, constants: Any) -> Any:
    while isinstance(value, Node) and value.op in ("index", "mx.broadcast_to", "method.astype"):
        if value.op == "index" and any(w is not None and w != slice(None) for w in value.args[1]):
            return None
        value = value.args[0]
    if _is(value, "constant") and value.args[0] in constants:
        return np.asarray(constants[value.args[0]].float())
    return None


def _from_zero(value: Any) -> bool:
    """Whether a value is the positions 0, 1, 2, ... in a column, whatever the length."""
    if not isinstance(value, Node) or not value.is_array:
        return False
    nodes = shapes_only.cone(value)
    symbols = None if nodes is None else shapes_only.symbols(nodes)
    if nodes is None or symbols is None:
        return False
    for length in (1, 2, 7, 40):
        try:
            found = shapes_only.computed(value, {symbol: length for symbol in symbols})
        except (ValueError, IndexError, RuntimeError):  # the formula takes no such length
            return False
        if not found.size:  # no position at that length tells nothing of the others
            return False
        rows = found.reshape(-1, found.shape[-2]) if found.ndim > 1 else found[None]
        if found.ndim > 1 and found.shape[-1] != 1:
            return False
        if not np.array_equal(rows, np.broadcast_to(np.arange(rows.shape[-1]), rows.shape)):
            return False
    return True


def _placed(r: Rewriter, x: Node, cos: Node, frequencies: Any) -> Any:
    """The call with positions on the last axis but one, where mx.fast.rope has them."""
    lengths = (1,) * (4 - cos.ndim) + cos.shape
    if lengths[1] == 1 and lengths[2] == x.shape[2] > 1:
        return _call(r, x, frequencies)
    if lengths[2] == 1 and lengths[1] == x.shape[1] > 1:
        turned = _call(r, r.builder.transpose(x, (0, 2, 1, 3)), frequencies)
        return r.builder.transpose(turned, (0, 2, 1, 3))
    return None


def _call(r: Rewriter, x: Node, frequencies: Any) -> Node:
    """mx.fast.rope, by base where the frequencies are powers of one."""
    size = 2 * len(frequencies)
    options: dict[str, Any] = {"traditional": False, "scale": 1.0, "offset": 0}
    base = _base(frequencies)
    if base is not None:
        return r.builder.call("mx.fast.rope", x, size, base=base, **options)
    periods = r.builder.call(
        "mx.array", tuple(float(v) for v in 1 / frequencies.astype(np.float64))
    )
    return r.builder.call("mx.fast.rope", x, size, base=None, freqs=periods, **options)


def _base(frequencies: Any) -> float | None:
    """b of b ** (-i / n), when all frequencies are that within float32's precision."""
    n = len(frequencies)
    if n < 2 or frequencies[0] != 1 or np.any(frequencies <= 0):
        return None
    base = float(frequencies[1].astype(np.float64) ** -n)
    rounded = round(base) if abs(base - round(base)) < 1e-4 * base else base
    ideal = np.float64(rounded) ** (-np.arange(n) / n)
    return float(rounded) if np.allclose(ideal, frequencies, rtol=1e-6, atol=0) else None
