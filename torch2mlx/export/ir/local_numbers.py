"""Numbers that come from lengths, computed anew in each region that reads them: from the first of
its arguments that has the length, or from the lengths that the model's own code hands to the
module, once for each number.

So two calls of one block are alike, whichever of them torch ran first, and no length is handed from
module to module but where the model does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from torch2mlx.export.ir.nodes import STATEMENTS, Node, operands, replace

#: Nodes that are no statements: they are written where they are used.
STORED = ("param", "constant", "module")
NOTHING: Mapping[str, Any] = MappingProxyType({})
_ARITHMETIC = {
    "operator.add": lambda a, b: a + b,
    "operator.sub": lambda a, b: a - b,
    "operator.mul": lambda a, b: a * b,
}


class Measures:
    """Which nodes are numbers made of lengths alone, and the formula of each. `expressions` are
    those of torch, by the node of the program that a number is the result of."""

    def __init__(self, expressions: Mapping[str, Any] = NOTHING) -> None:
        self._known: dict[Node, bool] = {}
        self._formulas: dict[Node, Any] = {}
        self._expressions = expressions
        #: by formula, the number that calls hand to modules: it is in no region yet
        self._handed: dict[Any, Node] = {}

    def handed(self, formula: Any, like: Node) -> Node:
        """The node for a number that is handed to a module."""
        if formula not in self._handed:
            self._handed[formula] = copied(like, like.args, like.kwargs)
        return self._handed[formula]

    def is_handed(self, node: Node) -> bool:
        """Whether a node stands for what is handed to a module."""
        return self._handed.get(self.formula(node)) is node

    def __contains__(self, node: Any) -> bool:
        if not isinstance(node, Node):
            return False
        if node not in self._known:
            self._known[node] = self._is(node)
        return self._known[node]

    def _is(self, node: Node) -> bool:
        if node.is_array or isinstance(node.value, (tuple, list)):
            return False
        if node.op in (*STORED, *STATEMENTS, "input", "item", "layer"):
            return False
        reads = list(operands(node))
        return node.op == "shape" or (bool(reads) and all(read in self for read in reads))

    def formula(self, node: Node) -> Any:
        """The number in terms of the program's lengths; None where that is not known."""
        if node not in self._formulas:
            self._formulas[node] = self._formula(node)
        return self._formulas[node]

    def _formula(self, node: Node) -> Any:
        if node.op == "shape":
            source, axis = node.args
            return formula_of(source, axis)
        if node.origin in self._expressions:
            return self._expressions[node.origin]
        compute = _ARITHMETIC.get(node.op)
        parts = [self.formula(a) if isinstance(a, Node) else a for a in node.args]
        if compute is None or any(part is None for part in parts):
            return None
        return compute(*parts)


def formula_of(array: Node, axis: int) -> Any:
    """The length of an axis as torch has it; None where it is a number or not known."""
    dim = array.dims[axis] if array.dims else None
    return getattr(dim, "expression", None)


class LocalNumbers:
    """Numbers of one region. `inside` are its nodes and those of inner regions, `arrays` what comes
    in from outside, `given` formulas of numbers that it is handed."""

    def __init__(
        self,
        measures: Measures,
        inside: set[Node],
        arrays: Iterable[Node],
        given: Collection[Any] = (),
    ) -> None:
        self._measures, self._inside, self._given = measures, inside, given
        self._places: dict[Any, tuple[Node, int]] = {}
        self._arrays = list(arrays)
        for array in self._arrays:
            for axis in range(len(array.dims or ())):
                found = formula_of(array, axis)
                if found is not None:
                    self._places.setdefault(found, (array, axis))
        self._made: dict[Any, Node] = {}
        self._local: dict[Node, Node] = {}
        self._fresh: set[Node] = set()

    def of(self, node: Node) -> Node:
        """The node that the region reads instead."""
        if node not in self._measures:
            return node
        if node not in self._local:
            self._local[node] = self._find(node)
        return self._local[node]

    def heading(self) -> list[Node]:
        """Lengths of arguments that are read, in the order of the arguments and of their axes."""
        order = {array: i for i, array in enumerate(self._arrays)}
        heads = [n for n in self._fresh if n.op == "shape" and n.args[0] in order]
        return sorted(heads, key=lambda n: (order[n.args[0]], n.args[1]))

    def made(self, node: Node) -> bool:
        """Whether a number was made here."""
        return node in self._fresh

    def _find(self, node: Node) -> Node:
        formula = self._measures.formula(node)
        place = self._places.get(formula)
        if place is not None:
            return self._once("shape", place, {}, node)
        if formula in self._given:
            return self._measures.handed(formula, node)
        if node.op == "operator.mul":  # twice a length that is there
            times, rest = formula.as_coeff_Mul() if formula is not None else (None, None)
            if rest in self._places and times is not None and times.is_Integer:
                array, axis = self._places[rest]
                length = Node("shape", (array, axis), {}, array.shape[axis], line=node.line)
                length = self._once("shape", length.args, {}, length)
                return self._once("operator.mul", (int(times), length), {}, node)
        if node.op == "shape":
            if node.args[0] in self._inside or node.args[0] in self._arrays:
                return self._once("shape", node.args, {}, node)
            return node
        parts = [(old, self.of(old)) for old in operands(node)]
        if all(new is old and not self.made(new) for old, new in parts):
            here = node in self._inside or self._measures.is_handed(node)
            return self._once(node.op, node.args, node.kwargs, node, here)
        args, kwargs = replace(node.args, self.of), replace(node.kwargs, self.of)
        return self._once(node.op, args, kwargs, node)

    def _once(
        self, op: str, args: Any, kwargs: Mapping[str, Any], like: Node, here: bool = True
    ) -> Node:
        if not here:
            return like
        key = (op, _key(args), _key(kwargs))
        if key not in self._made:
            self._made[key] = copied(like, tuple(args), kwargs, op)
            self._fresh.add(self._made[key])
        return self._made[key]


def copied(like: Node, args: Any, kwargs: Mapping[str, Any], op: str = "") -> Node:
    """Another node for the same number."""
    known = (like.value, None, like.scope, like.name, like.line, like.origin)
    return Node(op or like.op, args, kwargs, *known)


def _key(value: Any) -> Any:
    """An argument as a key: nodes by identity, numbers with their type."""
    if isinstance(value, Mapping):
        return tuple((name, _key(item)) for name, item in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(map(_key, value))
    return value if isinstance(value, Node) else (type(value).__name__, repr(value))


def numbers_in(node: Node, made: LocalNumbers) -> Iterator[Node]:
    """Numbers that were made for a node, those that others are computed from first."""
    for read in operands(node):
        if made.made(read):
            yield from numbers_in(read, made)
            yield read
