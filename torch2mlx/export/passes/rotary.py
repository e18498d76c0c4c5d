"""Rotary embeddings: x * cos + rotate_half(x) * sin becomes mx.fast.rope.

Only where cos and sin are seen to be those of fixed frequencies times positions that follow each
other: from zero on, from a length on, that of what a cache holds, or each row from its own first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torch2mlx.export.ir.nodes import Node, Program, is_call, learn, operands
from torch2mlx.export.passes import shapes_only
from torch2mlx.export.passes.rewrite import Rewriter


def with_rope(program: Program, constants: Any) -> Program:
    """The program with mx.fast.rope; `constants` has the arrays of constant nodes."""
    known: dict[Node, _Turns] = {}

    def rule(r: Rewriter, node: Node) -> Any:
        if node.op == "mx.cos":
            found = _of_angle(node.args[0], constants)
            if found is not None:
                known[node.args[0]] = _computed_there(r, found)
        return _rope(r, node, known) if node.op == "operator.add" else None

    return Rewriter(program).run(rule)


def _rope(r: Rewriter, node: Node, known: Mapping[Node, _Turns]) -> Any:
    """x * cos + rotated * sin, of x (B, heads, L, D)."""
    if (
        not node.is_array
        or node.ndim != 4
        or not all(is_call(v, "operator.mul") for v in node.args)
    ):
        return None
    for straight, turned in (node.args, node.args[::-1]):
        for x, cos in (straight.args, straight.args[::-1]):
            for half, sin in (turned.args, turned.args[::-1]):
                if _is_half_of(half, x):
                    found = _turns(cos, sin, known)
                    if found is not None and 2 * len(found.frequencies) == x.shape[-1]:
                        return _placed(r, x, cos, found)
    return None


@dataclass(frozen=True)
class _Turns:
    """Angles: frequencies times positions that follow each other from `start` on, a number, the
    node of a length, or that of positions of which each row has its own first."""

    frequencies: Any
    start: Any
    #: What cosine and sine are multiplied by.
    factor: float = 1.0
    #: The node of 1 / frequencies, where these are no powers of a number.
    periods: Node | None = None


def _computed_there(r: Rewriter, found: _Turns) -> _Turns:
    """What mx.fast.rope takes, computed once, where the angles are."""
    if _base(found.frequencies) is None:
        each = 1 / found.frequencies.astype(np.float64)
        periods = r.builder.call("mx.array", tuple(map(float, each)))
        learn(periods, name="freqs")
        found = replace(found, periods=periods)
    if isinstance(found.start, Node) and found.start.is_array:
        first = r.builder.index(found.start, slice(None), *[0] * (found.start.ndim - 1))
        start = r.builder.cast(first, "int32")
        learn(start, name="offset")
        found = replace(found, start=start)
    return found


def _is_half_of(half: Any, x: Any) -> bool:
    """concatenate([-x[..., d/2:], x[..., :d/2]], -1)."""
    if not is_call(half, "mx.concatenate") or half.kwargs.get("axis") not in (-1, half.ndim - 1):
        return False
    parts = half.args[0]
    if len(parts) != 2 or not is_call(parts[0], "operator.neg") or not isinstance(x, Node):
        return False
    middle = x.shape[-1] // 2
    return _part(parts[0].args[0], x) == (middle, None) and _part(parts[1], x) == (None, middle)


def _part(value: Any, x: Node) -> tuple[Any, Any] | None:
    """(start, stop) of a slice of x's last axis; also of a transpose of it."""
    if is_call(value, "item") and is_call(value.args[0], "mx.split") and value.args[0].args[0] is x:
        middle = x.shape[-1] // 2
        return ((None, middle), (middle, None))[value.args[1]]
    turned = is_call(value, "method.transpose") and is_call(x, "method.transpose")
    if turned and value.args[1:] == x.args[1:] and x.args[-1] == x.ndim - 1:
        return _part(value.args[0], x.args[0])
    if not is_call(value, "index") or value.args[0] is not x or len(value.args[1]) != x.ndim:
        return None
    *before, last = value.args[1]
    whole = all(w == slice(None) for w in before) and isinstance(last, slice)
    return (last.start, last.stop) if whole and last.step is None else None


def _turns(cos: Any, sin: Any, known: Mapping[Node, _Turns]) -> _Turns | None:
    """What cos and sin are of, where both are of the same angles."""
    first, second = _angle(cos, "mx.cos"), _angle(sin, "mx.sin")
    if first is None or second is None or first[0] is not second[0] or first[1] != second[1]:
        return None
    found = known.get(first[0])
    return None if found is None else replace(found, factor=first[1])


def _angle(value: Any, op: str) -> tuple[Node, float] | None:
    """The argument of cos or sin, under new axes, casts and products with a number; and this."""
    factor = 1.0
    while isinstance(value, Node) and value.op in (*_VEILS, "operator.mul"):
        if value.op == "index" and any(w is not None and w != slice(None) for w in value.args[1]):
            return None
        if value.op == "operator.mul":
            numbers = [a for a in value.args if isinstance(a, (int, float))]
            if len(numbers) != 1:
                return None
            factor *= numbers[0]
        value = next(a for a in value.args if isinstance(a, Node))
    return (value.args[0], factor) if is_call(value, op) else None


def _of_angle(angle: Any, constants: Any) -> _Turns | None:
    """What is known of concatenate([p * f, p * f]) with p the positions as a column."""
    if not is_call(angle, "mx.concatenate") or len(set(map(id, angle.args[0]))) != 1:
        return None
    if len(angle.args[0]) != 2 or angle.kwargs.get("axis") not in (-1, angle.ndim - 1):
        return None
    product = angle.args[0][0]
    if is_call(product, "method.transpose"):
        product = product.args[0] if product.args[-2:] == (2, 1) else product
    if not (is_call(product, "operator.mul") or is_call(product, "operator.matmul")):
        return None
    for positions, fixed in (product.args, product.args[::-1]):
        values = _constant(fixed, constants)
        start = None if values is None else _first_of(positions)
        if start is not None:
            return _Turns(values.reshape(-1), start)
    return None


def _constant(value: Any, constants: Any) -> Any:
    while isinstance(value, Node) and value.op in ("index", "mx.broadcast_to", "method.astype"):
        if value.op == "index" and any(w is not None and w != slice(None) for w in value.args[1]):
            return None
        value = value.args[0]
    if is_call(value, "constant") and value.args[0] in constants:
        return np.asarray(constants[value.args[0]].float())
    return None


def _first_of(value: Any) -> Any:
    """Where positions n, n + 1, n + 2, ... in a column begin, whatever the lengths: 0, the node of
    a length, or `value` itself where rows begin apart. None where it is something else."""
    if not isinstance(value, Node) or not value.is_array:
        return None
    given = [node for node in _inputs(value) if node.ndim == 1 and "int" in node.dtype]
    nodes = shapes_only.cone(value, given)
    symbols = None if nodes is None else shapes_only.symbols(nodes)
    if nodes is None or symbols is None:
        return None
    cases = [dict.fromkeys(symbols, length) for length in _TRIED]
    cases += [{**case, symbol: 11} for case in cases for symbol in sorted(symbols)]
    try:
        found = [_starts(shapes_only.computed(value, c, _samples(given, c))) for c in cases]
    except (ValueError, IndexError, RuntimeError):  # the formula takes no such length
        return None
    if None in found:
        return None
    if given:
        return value if value.shape[0] == given[0].shape[0] and value.ndim > 1 else None
    firsts = [rows[0] for rows in found if rows is not None and len(set(rows)) == 1]
    return _length(nodes, cases, firsts) if len(firsts) == len(cases) else None


def _inputs(value: Node) -> list[Node]:
    """The arguments of the program that a value is computed from."""
    seen, waiting = {value}, [value]
    while waiting:
        now = waiting.pop()
        more = [] if now.op == "shape" else [n for n in operands(now) if n not in seen]
        seen.update(more)
        waiting += more
    return [node for node in seen if node.op == "input"]


def _samples(given: Sequence[Node], sizes: Mapping[str, int]) -> dict[Node, Any]:
    """Numbers for arguments of one axis, below zero too."""
    import mlx.core as mx

    found = {}
    for node in given:
        dim = node.dims[0] if node.dims else node.shape[0]
        length = sizes.get(dim, node.shape[0]) if isinstance(dim, str) else dim
        found[node] = mx.array([(7 * i) % 5 - 1 for i in range(length)], node.value.dtype)
    return found


def _length(nodes: Collection[Node], cases: Sequence[Mapping[str, int]], firsts: list[int]) -> Any:
    """0, or the node of a length that is the first position in all cases; None without one."""
    if not any(firsts):
        return 0
    lengths = [node for node in nodes if not node.is_array and isinstance(node.value, int)]
    for node in sorted(lengths, key=lambda node: node.op != "shape"):
        if [shapes_only.computed(node, sizes) for sizes in cases] == firsts:
            return node
    return None


#: What leaves angles as they are, where it adds axes alone.
_VEILS = ("index", "method.astype", "mx.stop_gradient")
#: Lengths that positions are tried at.
_TRIED = (1, 2, 7, 40)


def _starts(found: Any) -> list[int] | None:
    """n of the numbers n, n + 1, n + 2, ... in a column, of each row."""
    if not found.size:  # no position at that length tells nothing of the others
        return None
    if found.ndim > 1 and found.shape[-1] != 1:
        return None
    rows = found.reshape(-1, found.shape[-2]) if found.ndim > 1 else found[None]
    wanted = rows[:, :1] + np.arange(rows.shape[-1])
    return [int(n) for n in rows[:, 0]] if np.array_equal(rows, wanted) else None


def _placed(r: Rewriter, x: Node, cos: Node, turns: _Turns) -> Any:
    """The call with positions on the last axis but one, where mx.fast.rope has them."""
    lengths = (1,) * (4 - cos.ndim) + cos.shape
    if lengths[1] == 1 and lengths[2] == x.shape[2] > 1:
        return _call(r, x, turns)
    if lengths[2] == 1 and lengths[1] == x.shape[1] > 1:
        turned = _call(r, r.builder.transpose(x, (0, 2, 1, 3)), turns)
        return r.builder.transpose(turned, (0, 2, 1, 3))
    return None


def _call(r: Rewriter, x: Node, turns: _Turns) -> Node:
    """mx.fast.rope, by base where the frequencies are powers of one."""
    size = 2 * len(turns.frequencies)
    options: dict[str, Any] = {"traditional": False, "scale": 1.0, "offset": turns.start}
    if turns.periods is None:
        options["scale"], base = _base(turns.frequencies) or (1.0, None)
    else:
        base, options["freqs"] = None, turns.periods
    made = r.builder.call("mx.fast.rope", x, size, base=base, **options)
    return made if turns.factor == 1 else r.builder.call("operator.mul", made, turns.factor)


def _base(frequencies: Any) -> tuple[float, float] | None:
    """s and b of s * b ** (-i / n), when all frequencies are that within float32's precision; b is
    the shortest number of those."""
    n = len(frequencies)
    if n < 2 or np.any(frequencies <= 0):
        return None
    scale = float(frequencies[0])
    powers = frequencies.astype(np.float64) / scale
    base = float(powers[1] ** -n)
    for digits in range(1, 10):
        rounded = float(f"{base:.{digits}g}")
        if np.allclose(rounded ** (-np.arange(n) / n), powers, rtol=5e-7, atol=0):
            return scale, rounded
    return None
