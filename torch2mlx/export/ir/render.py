"""How each op of the intermediate form is printed: a table, and expressions by precedence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.nodes import Node, Symbol

#: op -> (sign, precedence); Python's own.
INFIX = {
    **{"operator.or_": ("|", 4), "operator.xor": ("^", 5), "operator.and_": ("&", 6)},
    **{"operator.lshift": ("<<", 7), "operator.rshift": (">>", 7)},
    **{"operator.add": ("+", 8), "operator.sub": ("-", 8)},
    **{"operator.mul": ("*", 9), "operator.truediv": ("/", 9), "operator.floordiv": ("//", 9)},
    **{"operator.mod": ("%", 9), "operator.matmul": ("@", 9), "operator.pow": ("**", 11)},
    **{"operator.eq": ("==", 3), "operator.ne": ("!=", 3), "operator.lt": ("<", 3)},
    **{"operator.le": ("<=", 3), "operator.gt": (">", 3), "operator.ge": (">=", 3)},
}
PREFIX = {"operator.neg": ("-", 10), "operator.invert": ("~", 10), "operator.not_": ("not ", 2)}
ATOM = 20

Text = tuple[str, int]
Lookup = Callable[[Node], Text]


def _builtin(value: Any) -> Any:
    """A number as Python's own: members of enumerations print otherwise."""
    kinds: tuple[type[Any], ...] = (int, float, complex)
    return next(kind(value) for kind in kinds if isinstance(value, kind))


def _extreme(value: float) -> str:
    """What is no number, or near the end of what float32 holds."""
    if not math.isfinite(value):
        return "mx.nan" if math.isnan(value) else "mx.inf" if value > 0 else "-mx.inf"
    return "mx.finfo(mx.float32).max" if value > 0 else "mx.finfo(mx.float32).min"


def literal(value: Any) -> str:
    """A constant as source."""
    if isinstance(value, np.generic):
        return literal(value.item())
    if isinstance(value, Symbol):
        return value.text
    if isinstance(value, float) and not abs(value) <= 3e38:
        return _extreme(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is ... or value is None or isinstance(value, bool):
        return "..." if value is ... else repr(value)
    if isinstance(value, (int, float, complex)):
        return repr(_builtin(value))
    if isinstance(value, (tuple, list)):
        inner = ", ".join(literal(item) for item in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    raise TranslationError(
        f"a {type(value).__name__} cannot be written into source: pass it as a tensor, a number or "
        "a string"
    )


class Renderer:
    """Prints nodes; `lookup` gives the text of an operand: a name, or an expression put in
    place."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def argument(self, value: Any, level: int = 0) -> str:
        """An argument in a place of some precedence."""
        if isinstance(value, Node):
            text, own = self._lookup(value)
            return f"({text})" if own < level else text
        if isinstance(value, (tuple, list)):
            inner = ", ".join(self.argument(item) for item in value)
            arrays = any(isinstance(item, Node) and item.is_array for item in value)
            if arrays or any(isinstance(item, (tuple, list)) for item in value):
                return f"[{inner}]"
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        if isinstance(value, slice):
            return self._slice(value)
        text = literal(value)
        return f"({text})" if text.startswith("-") and level > 8 else text

    def expression(self, node: Node) -> Text:
        """A node as source, with its precedence."""
        if node.op in INFIX:
            return self._infix(node)
        if node.op in PREFIX:
            sign, level = PREFIX[node.op]
            return f"{sign}{self.argument(node.args[0], level)}", level
        if node.op == "builtin.choose":
            condition, one, other = (self.argument(value, 1) for value in node.args)
            return f"{one} if {condition} else {other}", 0
        special = getattr(self, f"_{node.op}", None)
        if special is not None:
            return special(node), ATOM
        group, _, name = node.op.partition(".")
        if group == "method":
            head = self.argument(node.args[0], ATOM)
            return f"{head}.{name}({self._arguments(node.args[1:], node.kwargs)})", ATOM
        if group == "attribute":
            return f"{self.argument(node.args[0], ATOM)}.{name}", ATOM
        called = name if group == "builtin" else node.op
        return f"{called}({self._arguments(node.args, node.kwargs)})", ATOM

    def _infix(self, node: Node) -> Text:
        sign, level = INFIX[node.op]
        left, right = node.args
        if sign == "**":
            return f"{self.argument(left, level + 1)}**{self.argument(right, level)}", level
        chained = level + 1 if level == 3 else level
        return f"{self.argument(left, chained)} {sign} {self.argument(right, level + 1)}", level

    def _arguments(self, args: Any, kwargs: Mapping[str, Any]) -> str:
        parts = [self.argument(value) for value in args]
        parts += [f"{name}={self.argument(value)}" for name, value in kwargs.items()]
        return ", ".join(parts)

    def _layer(self, node: Node) -> str:
        return f"{self.argument(node.args[0])}({self._arguments(node.args[1:], node.kwargs)})"

    _chosen = _layer

    def _shape(self, node: Node) -> str:
        return f"{self.argument(node.args[0], ATOM)}.shape[{node.args[1]}]"

    def _list(self, node: Node) -> str:
        return f"[{', '.join(self.argument(item) for item in node.args[0])}]"

    def _item(self, node: Node) -> str:
        return f"{self.argument(node.args[0], ATOM)}[{node.args[1]}]"

    _slot = _entry = _item

    def _held(self, node: Node) -> str:
        return f"length_of({self.argument(node.args[0])})"

    def _attend(self, node: Node) -> str:
        return f"scaled_dot_product_attention({self._arguments(node.args, node.kwargs)})"

    def _index(self, node: Node) -> str:
        where = list(node.args[1])
        head = self.argument(node.args[0], ATOM)
        skipped = 0
        while skipped < len(where) - 1 and where[skipped] == slice(None):
            skipped += 1
        whole = node.args[0].ndim == _axes(where)
        if skipped > 1 and whole and all(w == slice(None) for w in where[:skipped]):
            where = [..., *where[skipped:]]
        return f"{head}[{', '.join(self._place(w) for w in where)}]"

    def _slice(self, value: slice) -> str:
        """A slice as an argument: slice(n), slice(1, None), slice(None, None, 2)."""
        parts = [value.start, value.stop, value.step]
        if parts[2] is None:
            parts = parts[1:2] if parts[0] is None else parts[:2]
        return f"slice({', '.join(self.argument(part) for part in parts)})"

    def _place(self, where: Any) -> str:
        if where is ...:
            return "..."
        if isinstance(where, slice):
            start, stop, step = (
                "" if part is None else self.argument(part)
                for part in (where.start, where.stop, where.step)
            )
            return f"{start}:{stop}" + (f":{step}" if step else "")
        return "None" if where is None else self.argument(where)


def _axes(where: list[Any]) -> int:
    return sum(1 for w in where if w is not None)
