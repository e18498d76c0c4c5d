"""Rows in the order of their experts, of which few need no order: what is done to them row by row,
until each is put back where it was, gives the same in any order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from heapq import heapify, heappop, heappush
from typing import Any

from torch2mlx.export.ir.dead import tuple_of
from torch2mlx.export.ir.nodes import Node, Program, is_call, leaves, operands
from torch2mlx.export.passes.rewrite import Rewriter

#: Calls that give an item for each item, or for each place of arrays that are broadcast.
_ITEMWISE = frozenset(
    (
        *(f"operator.{name}" for name in ("add", "sub", "mul", "truediv", "neg", "pow")),
        *(f"mx.{name}" for name in ("minimum", "maximum", "clip", "where", "square", "rsqrt")),
        *(f"mx.{name}" for name in ("exp", "tanh", "sigmoid", "erf", "abs", "logaddexp")),
        *(f"nn.{name}" for name in ("silu", "gelu", "gelu_approx", "relu", "relu2")),
        *("method.astype", "mx.stop_gradient"),
    )
)


def with_few_rows(program: Program) -> Program:
    """The program with rows in the order of `kit.moe.ordered`, where layers of experts have them
    in that of a sort of their numbers, and nothing tells one order from another."""
    orders = {order.sort: order for order in _orders(program)}
    if not orders:
        return program
    known = {node: order for order in orders.values() for node in order.replaced}

    def rule(r: Rewriter, node: Node) -> Any:
        old = r.old[node]
        if old in orders:
            return r.builder.call("kit.moe.ordered", _uncast(r, node.args[0]))
        if old not in known:
            return None
        order = r.new(known[old].places)
        if old in known[old].back:
            return r.builder.call("kit.moe.put_back", node.args[0], order)
        count = known[old].replaced[old]
        more = () if count == 1 else (count,)
        return r.builder.call("kit.moe.rows_of", node.args[0], order, *more)

    return Rewriter(program).run(rule)


def _uncast(r: Rewriter, numbers: Node) -> Node:
    """Numbers in a row without what made others of uint32, since `ordered` answers these."""
    if not is_call(numbers, "method.reshape") or not is_call(numbers.args[0], "method.astype"):
        return numbers
    plain = numbers.args[0].args[0]
    if plain.dtype != "uint32":
        return numbers
    value = numbers.value.astype(plain.value.dtype)
    args = (plain, *numbers.args[1:])
    return r.builder.add(Node("method.reshape", args, {}, value, numbers.dims))


class _Order:
    """What follows from one sort of numbers of experts."""

    def __init__(self, sort: Node) -> None:
        self.sort = sort
        self.places: Any = None
        self.experts: set[Node] = set()
        #: Places, divided by how many experts a row has.
        self.counts: dict[Node, int] = {}
        self.inverse: set[Node] = set()
        self.rows: set[Node] = set()
        self.parts: set[Node] = set()
        #: Indexing by places, with that number; what puts rows back is in `back` too.
        self.replaced: dict[Node, int] = {}
        self.back: set[Node] = set()
        self.chosen = False

    def follow(self, node: Node) -> bool:
        """Notes what a node is that reads something of this; False where it could tell one order
        from another."""
        rules = {"item": self._item, "index": self._index, "chosen": self._product}
        rules |= {"operator.floordiv": self._divided, "mx.argsort": self._inverted}
        rules |= {"mx.split": self._split}
        if node.op in rules:
            return rules[node.op](node)
        if node.op == "method.astype" and node.args[0] in self.inverse:
            self.inverse.add(node)
            return True
        elementwise = node.op == "layer" and node.args[0].value == "elementwise"
        return (elementwise or node.op in _ITEMWISE) and self._itemwise(node)

    def _item(self, node: Node) -> bool:
        if node.args[0] in self.parts:
            self.rows.add(node)
        elif node.args[1] == 0:
            self.experts.add(node)
        elif self.places is None:
            self.places = node
            self.counts[node] = 1
        else:
            return False
        return True

    def _divided(self, node: Node) -> bool:
        places, count = node.args
        if places is not self.places or not isinstance(count, int):
            return False
        self.counts[node] = count
        return True

    def _inverted(self, node: Node) -> bool:
        if node.args != (self.places,) or node.kwargs:
            return False
        self.inverse.add(node)
        return True

    def _index(self, node: Node) -> bool:
        base, (first, *more) = node.args
        if base in self.rows and first == slice(None):
            return not any(isinstance(w, Node) for w in more) and self._same_rows(node)
        if more or not isinstance(first, Node):
            return False
        if base in self.rows and first in self.inverse:
            self.back.add(node)
            self.replaced[node] = 1
            return True
        if base in self or first not in {*self.counts, *self.experts}:
            return False
        if first in self.counts:
            self.replaced[node] = count = self.counts[first]
            if base.shape[0] * count != node.shape[0]:  # it holds more than the rows
                return False
        self.rows.add(node)
        return True

    def _product(self, node: Node) -> bool:
        _, x, experts = node.args
        if x not in self.rows or experts not in self.experts:
            return False
        self.chosen = True
        return self._same_rows(node)

    def _split(self, node: Node) -> bool:
        x = node.args[0]
        if x not in self.rows or node.kwargs.get("axis") not in (-1, x.ndim - 1) or x.ndim < 2:
            return False
        self.parts.add(node)
        return True

    def _itemwise(self, node: Node) -> bool:
        """Whether rows stay rows: other arrays have none of their own."""
        read = [n for n in operands(node) if n.is_array]
        apart = [n for n in read if n not in self.rows]
        plain = all(n.ndim < node.ndim or n.shape[0] == 1 for n in apart)
        full = all(n.ndim == node.ndim for n in read if n in self.rows)
        odd = any(n in self for n in apart) or len(apart) == len(read)
        return plain and full and not odd and self._same_rows(node)

    def _same_rows(self, node: Node) -> bool:
        if not node.is_array or node.shape[:1] != self.sort.args[0].shape:
            return False
        self.rows.add(node)
        return True

    def __contains__(self, node: Node) -> bool:
        held: tuple[Collection[Node], ...] = (self.experts, self.counts, self.inverse, self.rows)
        return node is self.sort or node in self.parts or any(node in some for some in held)


def _orders(program: Program) -> list[_Order]:
    """The sorts of numbers of experts of which any order would do."""
    at = {node: i for i, node in enumerate(program.nodes)}
    readers: dict[Node, list[int]] = {}
    for node in program.nodes:
        for read in operands(node):
            readers.setdefault(read, []).append(at[node])
    given = set(leaves(tuple_of(program.outputs)))
    orders = [_Order(node) for node in program.nodes if _is_upwards(node)]
    return [one for one in orders if _is_any(one, program, readers, given)]


def _is_upwards(node: Node) -> bool:
    if not is_call(node, "kit.sorting.sort") or node.kwargs:
        return False
    numbers, *options = node.args
    upwards = options in ([], [-1], [-1, False], [0], [0, False])
    return upwards and isinstance(numbers, Node) and numbers.ndim == 1


def _is_any(
    order: _Order, program: Program, readers: Mapping[Node, list[int]], given: Collection[Node]
) -> bool:
    """Whether no result tells the order, and layers of experts are among what reads it."""
    waiting, seen = list(readers.get(order.sort, ())), set()
    heapify(waiting)
    while waiting:
        i = heappop(waiting)
        node = program.nodes[i]
        if i in seen:
            continue
        seen.add(i)
        if not order.follow(node) or (node in order and node in given):
            return False
        if node in order:
            for reader in readers.get(node, ()):
                heappush(waiting, reader)
    return order.chosen and order.places is not None
