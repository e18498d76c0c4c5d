"""Values that depend on shapes alone: a mask that is causal whatever the length, positions from
zero.

Such a value is computed for a number of lengths, those around every constant in its formula among
them, and compared with what it might be.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from torch2mlx.export.ir.nodes import Node, function_of, operands
from torch2mlx.export.ir.nodes import plain as arguments_of

_SYMBOL = re.compile(r"\b[A-Za-z_]\w*\b(?!\s*\()")
#: What the length of a cache is called among sizes, where a program has caches.
HELD = "held"
#: Lengths that are tried, besides those around constants up to `_LARGEST`.
_LENGTHS = (1, 2, 3, 5, 9, 16, 33)
_LARGEST = 3000


def cone(node: Node, known: Collection[Node] = ()) -> set[Node] | None:
    """All nodes that a value is computed from, None when data or weights are among them, but for
    those that are `known`."""
    found: set[Node] = set()
    waiting = [node]
    while waiting:
        now = waiting.pop()
        if now in found:
            continue
        found.add(now)
        if now.op in ("shape", "held") or now in known:
            continue
        if now.op in ("input", "param", "constant", "layer", "update") or "random" in now.op:
            return None
        waiting += operands(now)
    return found


def symbols(nodes: set[Node]) -> set[str] | None:
    """Symbols of the lengths that are read; None when one is not a plain symbol."""
    found = set()
    for node in nodes:
        if node.op == "held":
            found.add(HELD)
        if node.op == "shape":
            dims = node.args[0].dims
            symbol = dims[node.args[1]] if dims else None
            if not isinstance(symbol, str) or not symbol.isidentifier():
                return None
            found.add(symbol)
    return found


def named_in(length: Any) -> set[str]:
    """The symbols in a length, a number or an expression."""
    return set(_SYMBOL.findall(str(length)))


def parts(nodes: set[Node]) -> set[str]:
    """Symbols of the lengths that are read, those within expressions too."""
    found = set()
    for node in nodes:
        if node.op == "held":
            found.add(HELD)
        if node.op == "shape":
            dims = node.args[0].dims or node.args[0].shape
            found |= named_in(dims[node.args[1]])
    return found


def lengths(nodes: set[Node]) -> tuple[int, ...]:
    """Lengths to try: a few, and those around every constant of the formula."""
    tried = set(_LENGTHS)
    for node in nodes:
        for value in _numbers((node.args, tuple(node.kwargs.values()))):
            near = {value - 1, value, value + 1, value + 2, 2 * value + 1}
            tried |= {n for n in near if 0 < n <= _LARGEST}
    return tuple(sorted(tried))


def too_large(nodes: set[Node]) -> bool:
    """Whether a constant of the formula is beyond what is tried."""
    return any(
        _LARGEST < abs(value) < 2**31
        for node in nodes
        for value in _numbers((node.args, tuple(node.kwargs.values())))
    )


def _numbers(value: Any) -> list[int]:
    if isinstance(value, (bool, Node)):
        return []
    if isinstance(value, int):
        return [abs(value)]
    if isinstance(value, float):
        return [int(abs(value))] if value == value and abs(value) < 2**31 else []
    if isinstance(value, (tuple, list)):
        return [n for item in value for n in _numbers(item)]
    if isinstance(value, slice):
        return _numbers((value.start, value.stop, value.step))
    return []


def computed(node: Node, sizes: Mapping[str, int], given: Mapping[Node, Any] | None = None) -> Any:
    """The value for lengths, by symbol, and what some nodes are given as."""
    known: dict[Node, Any] = dict(given or {})

    def value(now: Node) -> Any:
        if now not in known:
            known[now] = _one(now, value, sizes)
        return known[now]

    return np.array(value(node))


def _one(node: Node, value: Any, sizes: Mapping[str, int]) -> Any:
    if node.op == "held":
        return sizes[HELD]
    if node.op == "shape":
        return _length(node, sizes)
    if node.op == "item":
        return value(node.args[0])[node.args[1]]
    if node.op == "index":
        where = tuple(arguments_of(w, value) for w in node.args[1])
        return value(node.args[0])[where]
    args = [arguments_of(a, value) for a in node.args]
    kwargs = {name: arguments_of(a, value) for name, a in node.kwargs.items()}
    return function_of(node.op)(*args, **kwargs)


def _length(node: Node, sizes: Mapping[str, int]) -> int:
    """A length that is read."""
    dims = node.args[0].dims or node.args[0].shape
    dim = dims[node.args[1]]
    if dim in sizes or isinstance(dim, int):
        return sizes.get(dim, dim)
    import sympy

    free = {name: sympy.Symbol(name, integer=True) for name in named_in(dim)}
    return int(sympy.sympify(dim, locals=free).subs({free[n]: sizes[n] for n in free}))
