"""Reading a method: what its expressions are, and how they are turned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libcst as cst

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.porting.layout.building import Building
from torch2mlx.porting.layout.protocols import Calling
from torch2mlx.porting.layout.tables import FUNCTIONS
from torch2mlx.porting.layout.values import NOTHING, PLAIN, Immovable, Member, Plan, Value
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.types.known import Types

#: Axes of a transpose to torch's layout.
_FIRST_ORDERS = ((0, 2, 1), (0, 3, 1, 2), (0, 4, 1, 2, 3))


class Reader:
    """Reads one method. `env` has the values of names, `modules` those that hold modules."""

    def __init__(
        self, names: Names, inference: Types, calling: Calling, building: Building, plan: Plan
    ) -> None:
        self.names, self.inference, self.calling = names, inference, calling
        self.building, self.plan = building, plan
        self.env: dict[str, Value] = {}
        self.modules: dict[str, Member] = {}
        self.built = False  # whether the method is one that constructors ran
        self.seen: dict[cst.CSTNode, Value] = {}  # of the statement that is read
        self.unturned_calls: set[cst.CSTNode] = set()  # x.permute(0, 3, 1, 2), left out
        self.wanted: dict[str, int] = {}  # arguments that were turned -> their axes

    def plain(self, node: Any) -> Value:
        """An expression that has to have torch's layout."""
        found = self.read(node)
        self.plan.wraps.pop(node, None)
        if node in self.unturned_calls:
            self.unturned_calls.discard(node)
            self.plan.dropped.discard(node)
        if found.last:
            self.plan.wraps[node] = "first"
            return Value(rank=found.rank)
        if isinstance(node, (cst.Tuple, cst.List)):
            for element in node.elements:
                self.plain(element.value)
            return PLAIN
        if found.holds:
            if not all(item.last for item in found.items):
                raise Immovable
            self.plan.wraps[node] = "each" if found.kind == "list" else "each of tuple"
            return PLAIN
        return found

    def last(self, node: Any, rank: int = 0) -> Value:
        """An expression that has to have its channels last."""
        found = self.read(node)
        self.plan.wraps.pop(node, None)
        if found.last or found is NOTHING:
            return found
        if found.kind != "plain":
            raise Immovable
        for name in found.origins:
            self.wanted[name] = self.wanted.get(name) or rank
        if len(self._order(node)) == rank and self._order(node) in _FIRST_ORDERS:
            self.plan.dropped.add(node)  # what it turns is channels last already
            self.unturned_calls.add(node)
        else:
            self.plan.wraps[node] = "last"
            self.plan.ranks[node] = rank
        return Value("last", rank=rank or found.rank)

    def beside(self, node: Any, rank: int) -> None:
        """What is combined, item by item, with an image of so many axes."""
        self.plain(node)
        self.plan.wraps[node] = "beside"
        self.plan.ranks[node] = rank

    def _order(self, node: Any) -> tuple[int, ...]:
        """The axes of x.permute(...) or x.transpose(...), as they are written."""
        if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
            return ()
        places = tuple(number(a.value) for a in node.args if a.keyword is None)
        if None in places or len(places) != len(node.args):
            return ()
        if node.func.attr.value == "permute":
            return tuple(p for p in places if p is not None)
        swaps = node.func.attr.value in ("transpose", "swapaxes")
        return (0, 2, 1) if swaps and set(places) in ({1, 2}, {-1, 1}) else ()

    def read(self, node: Any) -> Value:
        """What an expression is, without turning it."""
        if node not in self.seen:
            self.seen[node] = self._read(node)
        return self.seen[node]

    def _read(self, node: Any) -> Value:
        member = self.module(node)
        if member is not None:  # it goes where it is not seen
            self.makes(member)
            return PLAIN
        rule = getattr(self, f"_of_{type(node).__name__}", None)
        if rule is not None:
            found: Value = rule(node)
            return found
        for child in children(node):
            self.whole(child)
        return PLAIN

    def makes(self, member: Member) -> None:
        """A module, or what makes one, is used where only `building` may have followed it."""
        if not member.makes or not self.built:
            self.calling.demote(member)

    def test(self, node: Any) -> None:
        """A condition: whether there is a module, or what an array says."""
        if isinstance(node, cst.BooleanOperation):
            self.test(node.left)
            self.test(node.right)
        elif isinstance(node, cst.UnaryOperation):
            self.test(node.expression)
        elif self.module(node) is None:
            self.plain(node)

    def whole(self, node: Any) -> None:
        """A part that is not followed: everything in it has torch's layout."""
        if isinstance(node, cst.BaseExpression):
            self.plain(node)
            return
        for child in children(node):
            self.whole(child)

    def module(self, node: Any) -> Member | None:
        """The module that an expression is, if it is one."""
        if isinstance(node, cst.Name):
            return self.modules.get(node.value)
        if isinstance(node, (cst.Attribute, cst.Subscript)):
            found = self.building.value(node, self.scope())
            if isinstance(node, cst.Subscript):
                for element in node.slice:
                    self.whole(element.slice)
            return found if found.kind not in ("other", "self") else None
        return None

    def scope(self) -> Mapping[str, Member]:
        raise NotImplementedError

    def bind_item(self, target: Any, iterated: Any) -> None:
        raise NotImplementedError


def number(node: Any) -> int | None:
    """An integer that is written out."""
    if isinstance(node, cst.Integer):
        return int(node.value, 0)
    minus = isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus)
    if minus and isinstance(node.expression, cst.Integer):
        return -int(node.expression.value, 0)
    return None


def called_function(names: Names, node: cst.Call) -> str:
    """The name of a function of torch. or torch.nn.functional; "" of torch.conv2d and its like,
    whose arguments are others, and which stay as torch has them."""
    full = names.of(node.func)
    entry = find_function(full)
    name = full.removeprefix("torch.").removeprefix("nn.functional.")
    kept = full == f"torch.{name}" and name in FUNCTIONS
    return name if entry is not None and not kept else ""


def moved_axis(at: int, rank: int) -> int | None:
    """Where an axis of torch's layout is; None where the rank decides and is not known."""
    if at in (0, 1):
        return 0 if at == 0 else -1
    if not rank or not -rank <= at < rank:
        return None
    place = at + rank if at < 0 else at
    return {0: 0, 1: -1}.get(place, place - 1)
