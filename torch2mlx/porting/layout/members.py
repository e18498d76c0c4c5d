"""Which modules the attributes of classes hold, while constructors are followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import libcst as cst

from torch2mlx.porting.layout.values import OTHER, Member, either
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import children

MODULES = frozenset(["stock", "chain", "own", "either", "list"])
Env = dict[str, Member]


@dataclass(eq=False)
class Members:
    """`held`: class -> attribute -> module. `leaked`: sites of layers that are called out of sight;
    `outer`: classes that are; `outer_chains`: Sequentials that are."""

    held: dict[str, dict[str, Member]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)  # classes of which an object was made
    leaked: set[cst.CSTNode] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)
    outer_chains: dict[cst.CSTNode, Member] = field(default_factory=dict)
    understood: set[cst.CSTNode] = field(default_factory=set)  # attributes read as modules
    ran: set[cst.CSTNode] = field(default_factory=set)  # functions that were followed
    visited: dict[cst.CSTNode, str] = field(default_factory=dict)  # sites -> name of the layer

    def hold(self, owner: str, name: str, value: Member) -> None:
        """An attribute of a class."""
        held = self.held.setdefault(owner, {})
        held[name] = merged(held.get(name), value) if name in held else value

    def leak(self, value: Member) -> None:
        """What is called where it is not seen has torch's layout there."""
        if value.kind == "chain" and value.site:
            self.outer_chains[value.site] = value
            return
        if value.kind == "own":
            self.outer.add(value.name)
        if value.kind == "class":
            self.outer.add(value.name)
        if value.site:
            self.leaked.add(value.site)
        for item in value.items:
            self.leak(item)

    def broken(self, value: Member) -> None:
        """A module that is changed in a way that is not followed: nothing in it may be moved."""
        for part in value.walk():
            if part.site:
                self.leaked.add(part.site)
            if part.kind == "own":
                self.outer.add(part.name)


@dataclass(eq=False)
class Run:
    """A run over the constructors of a file: what is known of it, what was found, where it is."""

    names: Names
    is_module: Callable[[str], bool]
    several: frozenset[str]  # names of more than one function or class
    members: Members = field(default_factory=Members)
    globals: Env = field(default_factory=dict)
    known: dict[Any, Member] = field(default_factory=dict)  # calls -> what they returned
    depth: int = 0
    constructing: bool = False  # whether the statements are those of an __init__


Rule = TypeVar("Rule", bound=Callable[..., Member])
_RULES: dict[type[cst.CSTNode], Callable[[Run, Any, Mapping[str, Member]], Member]] = {}


def makes(*kinds: type[cst.CSTNode]) -> Callable[[Rule], Rule]:
    """Registers a function as the one that says which modules these kinds of expressions are."""

    def registered(rule: Rule) -> Rule:
        assert not _RULES.keys() & set(kinds), f"{rule.__name__}: another rule has {kinds}"
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return registered


def item_of(value: Member) -> Member:
    """An item of a list."""
    found: Member | None = None
    value = value.there
    for item in value.items if value.kind in ("list", "chain") else ():
        found = merged(found, replace(item, repeated=False))
    return OTHER if found is None else found


def made_again(value: Member) -> Member:
    """An item that a loop makes several times."""
    return replace(value, repeated=True)


def merged(one: Member | None, other: Member) -> Member:
    """One or the other; lists, of which one is a start of the other, are the longer one."""
    if one is not None and one.kind == other.kind == "list":
        longer, shorter = sorted((one.items, other.items), key=len, reverse=True)
        if longer[: len(shorter)] == shorter:
            return one if one.items == longer else other
        parts = [i for i in (*one.items, *other.items)]
        return Member("list", items=tuple(dict.fromkeys(parts)))
    if one is not None and one.kind == "other":
        return other if other.kind in ("none", "other") else either(one, other)
    return either(one, other)


def member_of(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    """The module, or modules, that an expression is; OTHER where it is none."""
    rule = _RULES.get(type(node))
    if rule is not None:
        return rule(run, node, env)
    for child in children(node):
        if isinstance(child, cst.CSTNode):
            run.members.leak(member_of(run, child, env))
    return OTHER
