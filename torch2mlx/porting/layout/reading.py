"""Reading a method: what its expressions are, and how they are turned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import libcst as cst

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.porting.layout.members import Run, member_of
from torch2mlx.porting.layout.protocols import Calling
from torch2mlx.porting.layout.tables import FUNCTIONS
from torch2mlx.porting.layout.values import NOTHING, PLAIN, Immovable, Member, Plan, Value
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.types.known import Types

#: Axes of a transpose to torch's layout.
_FIRST_ORDERS = ((0, 2, 1), (0, 3, 1, 2), (0, 4, 1, 2, 3))


@dataclass(frozen=True, eq=False)
class File:
    """What readings ask about their file: names, types, how modules are called, what holds them."""

    names: Names
    types: Types
    calling: Calling
    run: Run


@dataclass(eq=False)
class Reading:
    """The reading of one method of a class, `owner`. `env` has the values of names, `modules` those
    that hold modules; names in `promoted` are channels last wherever they are."""

    file: File
    owner: str
    promoted: set[str]
    answers_plain: bool = True  # whether what is returned has torch's layout
    plan: Plan = field(default_factory=Plan)
    env: dict[str, Value] = field(default_factory=dict)
    modules: dict[str, Member] = field(default_factory=dict)
    built: bool = False  # whether the method is one that constructors ran
    seen: dict[cst.CSTNode, Value] = field(default_factory=dict)  # of the statement that is read
    unturned_calls: set[cst.CSTNode] = field(default_factory=set)  # x.permute(0, 3, 1, 2), left out
    wanted: dict[str, int] = field(default_factory=dict)  # arguments that were turned -> their axes
    answers: list[tuple[Any, Value]] = field(default_factory=list)  # what is returned, and where
    jumps: list[dict[str, Value]] = field(default_factory=list)  # values at `continue` and `break`

    def scope(self) -> Mapping[str, Member]:
        """What names of the method hold that are modules, `self` among them."""
        return {"self": Member("self", self.owner), **self.modules}


Rule = TypeVar("Rule", bound=Callable[..., Value])
_RULES: dict[type[cst.CSTNode], Callable[[Reading, Any], Value]] = {}


def reads(*kinds: type[cst.CSTNode]) -> Callable[[Rule], Rule]:
    """Registers a function as the one that reads these kinds of expressions."""

    def registered(rule: Rule) -> Rule:
        assert not _RULES.keys() & set(kinds), f"{rule.__name__}: another rule has {kinds}"
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return registered


def read_plain(reading: Reading, node: Any) -> Value:
    """An expression that has to have torch's layout."""
    found = read(reading, node)
    reading.plan.wraps.pop(node, None)
    if node in reading.unturned_calls:
        reading.unturned_calls.discard(node)
        reading.plan.dropped.discard(node)
    if found.last:
        reading.plan.wraps[node] = "first"
        return Value(rank=found.rank)
    if isinstance(node, (cst.Tuple, cst.List)):
        for element in node.elements:
            read_plain(reading, element.value)
        return PLAIN
    if found.holds:
        if not all(item.last for item in found.items):
            raise Immovable
        reading.plan.wraps[node] = "each" if found.kind == "list" else "each of tuple"
        return PLAIN
    return found


def read_last(reading: Reading, node: Any, rank: int = 0) -> Value:
    """An expression that has to have its channels last."""
    found = read(reading, node)
    reading.plan.wraps.pop(node, None)
    if found.last or found is NOTHING:
        return found
    if found.kind != "plain":
        raise Immovable
    for name in found.origins:
        reading.wanted[name] = reading.wanted.get(name) or rank
    if len(axis_order(node)) == rank and axis_order(node) in _FIRST_ORDERS:
        reading.plan.dropped.add(node)  # what it turns is channels last already
        reading.unturned_calls.add(node)
    else:
        reading.plan.wraps[node] = "last"
        reading.plan.ranks[node] = rank
    return Value("last", rank=rank or found.rank)


def read_beside(reading: Reading, node: Any, rank: int) -> None:
    """What is combined, item by item, with an image of so many axes."""
    read_plain(reading, node)
    reading.plan.wraps[node] = "beside"
    reading.plan.ranks[node] = rank


def axis_order(node: Any) -> tuple[int, ...]:
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


def read(reading: Reading, node: Any) -> Value:
    """What an expression is, without turning it."""
    if node not in reading.seen:
        reading.seen[node] = _read(reading, node)
    return reading.seen[node]


def _read(reading: Reading, node: Any) -> Value:
    member = module_of(reading, node)
    if member is not None:  # it goes where it is not seen
        leaves(reading, member)
        return PLAIN
    rule = _RULES.get(type(node))
    if rule is not None:
        return rule(reading, node)
    for child in children(node):
        unfollowed(reading, child)
    return PLAIN


def leaves(reading: Reading, member: Member) -> None:
    """A module, or what makes one, is used where only the run may have followed it."""
    if not member.makes or not reading.built:
        reading.file.calling.demote(member)


def read_test(reading: Reading, node: Any) -> None:
    """A condition: whether there is a module, or what an array says."""
    if isinstance(node, cst.BooleanOperation):
        read_test(reading, node.left)
        read_test(reading, node.right)
    elif isinstance(node, cst.UnaryOperation):
        read_test(reading, node.expression)
    elif module_of(reading, node) is None:
        read_plain(reading, node)


def unfollowed(reading: Reading, node: Any) -> None:
    """A part that is not followed: everything in it has torch's layout."""
    if isinstance(node, cst.BaseExpression):
        read_plain(reading, node)
        return
    for child in children(node):
        unfollowed(reading, child)


def module_of(reading: Reading, node: Any) -> Member | None:
    """The module that an expression is, if it is one."""
    if isinstance(node, cst.Name):
        return reading.modules.get(node.value)
    if isinstance(node, (cst.Attribute, cst.Subscript)):
        found = member_of(reading.file.run, node, reading.scope())
        if isinstance(node, cst.Subscript):
            for element in node.slice:
                unfollowed(reading, element.slice)
        return found if found.kind not in ("other", "self") else None
    return None


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


def all_plain(reading: Reading, args: Any) -> None:
    for argument in args:
        read_plain(reading, argument.value)
