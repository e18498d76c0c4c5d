"""Expressions that make modules, and what is known to leave the file's sight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import libcst as cst

from torch2mlx.porting.layout.tables import FLEXIBLE, ITSELF, RIGID
from torch2mlx.porting.layout.values import NONE, OTHER, Member, either
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.types.layers import ITEMWISE

MODULES = frozenset(["stock", "chain", "own", "either", "list"])


class Building:
    """Members by expression. `leaked`: sites of layers that are called out of sight; `outer`:
    classes that are; `outer_chains`: Sequentials that are."""

    def __init__(self, names: Names, is_module: Callable[[str], bool]) -> None:
        self.names, self.is_module = names, is_module
        self.members: dict[str, dict[str, Member]] = {}
        self.made: set[str] = set()
        self.leaked: set[cst.CSTNode] = set()
        self.outer: set[str] = set()
        self.outer_chains: dict[cst.CSTNode, Member] = {}
        self.understood: set[cst.CSTNode] = set()  # attributes that were read as modules
        self.ran: set[cst.CSTNode] = set()  # functions that were followed
        self.several: frozenset[str] = frozenset()  # names of more than one function or class
        self.visited: dict[cst.CSTNode, str] = {}  # sites -> name of the layer

    def called(self, node: cst.Call, env: Any) -> Member:
        raise NotImplementedError

    def loop_value(self, node: Any, env: Any) -> Member:
        raise NotImplementedError

    def instance(self, name: str, args: Any) -> Member:
        raise NotImplementedError

    def value(self, node: Any, env: Mapping[str, Member]) -> Member:
        """The module, or modules, that an expression is; OTHER where it is none."""
        rule = getattr(self, f"_of_{type(node).__name__}", None)
        if rule is not None:
            found: Member = rule(node, env)
            return found
        for child in children(node):
            if isinstance(child, cst.CSTNode):
                self.leak(self.value(child, env))
        return OTHER

    def _of_Name(self, node: cst.Name, env: Mapping[str, Member]) -> Member:
        name = node.value
        if name == "None":
            return NONE
        if name in env:
            return env[name]
        full = self.names.of(node)
        if full:
            return self._reference(full, node)
        if name in self.names.classes:
            return Member("class", name) if self.is_module(name) else OTHER
        if name in self.names.functions and name not in self.several:
            found = self.names.functions[name]
            return Member("function", site=found, node=found)
        return OTHER

    def _reference(self, full: str, node: Any) -> Member:
        named = full.startswith("torch.nn.") and full.count(".") == 2 and full[9:10].isupper()
        if not named:
            return OTHER
        self.visited.setdefault(node, full[9:])
        return Member("class", full[9:], node)

    def _of_Attribute(self, node: cst.Attribute, env: Mapping[str, Member]) -> Member:
        full = self.names.of(node)
        if full:
            return self._reference(full, node)
        owner = self.value(node.value, env)
        if owner.kind in ("self", "own"):
            found = self.members.get(owner.name, {}).get(node.attr.value)
            if found is not None:
                self.understood.add(node)
                return found
        return OTHER

    def _of_Call(self, node: cst.Call, env: Mapping[str, Member]) -> Member:
        return self.called(node, env)

    def _of_List(self, node: Any, env: Mapping[str, Member]) -> Member:
        items: list[Member] = []
        for element in node.elements:
            value = self.value(element.value, env)
            starred = isinstance(element, cst.StarredElement)
            items += value.items if starred and value.kind == "list" else (value,)
        return Member("list", items=tuple(items))

    _of_Tuple = _of_List

    def _of_Dict(self, node: cst.Dict, env: Mapping[str, Member]) -> Member:
        return Member("list", items=tuple(self.value(e.value, env) for e in node.elements))

    def _of_ListComp(self, node: Any, env: Mapping[str, Member]) -> Member:
        return self.loop_value(node, env)

    _of_GeneratorExp = _of_ListComp

    def _of_IfExp(self, node: cst.IfExp, env: Mapping[str, Member]) -> Member:
        return self.merged(self.value(node.body, env), self.value(node.orelse, env))

    def _of_BinaryOperation(self, node: Any, env: Mapping[str, Member]) -> Member:
        left, right = self.value(node.left, env), self.value(node.right, env)
        if left.kind == right.kind == "list":
            return Member("list", items=(*left.items, *right.items))
        if left.kind == "list" and isinstance(node.operator, cst.Multiply):
            return Member("list", items=tuple(map(self.again, left.items)))
        self.leak(left)
        self.leak(right)
        return OTHER

    def _of_Comparison(self, node: Any, env: Mapping[str, Member]) -> Member:
        self.value(node.left, env)  # whether there is one
        for part in node.comparisons:
            self.value(part.comparator, env)
        return OTHER

    def _of_UnaryOperation(self, node: Any, env: Mapping[str, Member]) -> Member:
        self.value(node.expression, env)
        return OTHER

    def _of_BooleanOperation(self, node: Any, env: Mapping[str, Member]) -> Member:
        return self.merged(self.value(node.left, env), self.value(node.right, env))

    def _of_Subscript(self, node: cst.Subscript, env: Mapping[str, Member]) -> Member:
        owner = self.value(node.value, env).there
        if owner.kind not in ("list", "chain"):
            self.leak(owner)
            return OTHER
        place = node.slice[0].slice
        if isinstance(place, cst.Slice):
            return Member("list", items=owner.items)
        at = place.value
        several = any(item.repeated for item in owner.items)
        if isinstance(at, cst.Integer) and not several and int(at.value) < len(owner.items):
            return owner.items[int(at.value)]
        return self.element(owner)

    def _of_Lambda(self, node: Any, env: Mapping[str, Member]) -> Member:
        self.leak(self.value(node.body, env))
        return OTHER

    # what modules are made of

    def layer(self, name: str, site: Any, args: Sequence[tuple[str, Member]]) -> Member:
        """A layer of torch.nn with its arguments."""
        values = [value for _, value in args]
        if name in ("ModuleList", "ModuleDict"):
            held = values[0] if values else Member("list")
            return held if held.kind == "list" else Member("list", items=(held,))
        if name == "Sequential":
            items = [i for v in values for i in (v.items if v.kind == "list" else (v,))]
            unseen = any(keyword == "*" for keyword, _ in args)
            return Member("chain", name, site, (*items, OTHER) if unseen else tuple(items))
        for value in values:
            if value.kind != "list" or value.items:
                self.leak(value)
        if any(keyword == "return_indices" for keyword, _ in args):
            self.leaked.add(site)  # the places are those of torch's layout
            return OTHER
        if name in RIGID or name in FLEXIBLE or name in ("Flatten", "Unflatten"):
            self.visited[site] = name
            return Member("stock", name, site)
        return Member("stock", name) if name in ITEMWISE else OTHER

    def gathered(self, name: str, values: list[Member]) -> Member:
        """list(...), zip(...) and their kin."""
        if name == "next":
            return self.element(values[0]) if values else OTHER
        if name == "enumerate":
            held = self.element(values[0]) if values else OTHER
            return Member("list", items=(Member("list", items=(OTHER, held), repeated=True),))
        if name == "zip":
            held = Member("list", items=tuple(map(self.element, values)), repeated=True)
            return Member("list", items=(held,))
        if name == "OrderedDict" and values and values[0].kind == "list":
            pairs = values[0].items
            if all(p.kind == "list" and len(p.items) == 2 for p in pairs):
                return Member("list", items=tuple(p.items[1] for p in pairs))
        return values[0] if values else Member("list")

    def asked(self, owner: Member, name: str) -> Member:
        """What a method of a module answers."""
        if name in ITSELF:
            return owner
        if owner.kind in ("list", "chain") and name in ("values", "items", "pop"):
            held = self.element(owner)
            pair = Member("list", items=(OTHER, held), repeated=True)
            return Member("list", items=(pair if name == "items" else self.again(held),))
        return OTHER

    def element(self, value: Member) -> Member:
        """An item of a list."""
        found: Member | None = None
        value = value.there
        for item in value.items if value.kind in ("list", "chain") else ():
            found = self.merged(found, replace(item, repeated=False))
        return OTHER if found is None else found

    def again(self, value: Member) -> Member:
        """An item that a loop makes several times."""
        return replace(value, repeated=True)

    def merged(self, one: Member | None, other: Member) -> Member:
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

    def hold(self, owner: str, name: str, value: Member) -> None:
        """An attribute of a class."""
        held = self.members.setdefault(owner, {})
        held[name] = self.merged(held.get(name), value) if name in held else value

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
