"""Calls in a forward: modules, functions of torch, methods of arrays."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout import tables
from torch2mlx.porting.layout.functions import Functions
from torch2mlx.porting.layout.reading import called_function
from torch2mlx.porting.layout.values import NOTHING, PLAIN, Immovable, Member, Protocol, Value
from torch2mlx.porting.scopes.import_table import dotted

#: Questions whose answer is the same in both layouts.
_SAME = ("dim", "ndimension", "numel", "nelement", "is_floating_point", "element_size")
_LAST_ORDERS = ((0, 2, 1), (0, 2, 3, 1), (0, 2, 3, 4, 1))


class Caller(Functions):
    """Reads calls. `owner`: the class whose method is read."""

    owner: str

    def _of_Call(self, node: cst.Call) -> Value:
        member = self.module(node.func)
        if member is not None:
            return self._module_call(member, node)
        if dotted(node.func) == "getattr" and node.args and dotted(node.args[0].value) == "self":
            raise Immovable
        name = called_function(self.names, node)
        if name and node.args and not node.args[0].star:
            return self._function(name, node, node.args[0].value, list(node.args[1:]))
        if isinstance(node.func, cst.Attribute) and not self.names.of(node.func):
            return self._method(node, node.func)
        length = dotted(node.func) == "len" and len(node.args) == 1
        if length and self.read(node.args[0].value).holds:
            return PLAIN
        if not dotted(node.func):
            self.plain(node.func)
        self._all_plain(node.args)
        return PLAIN

    def _all_plain(self, args: Any) -> None:
        for argument in args:
            self.plain(argument.value)

    # modules

    def _module_call(self, member: Member, node: cst.Call) -> Value:
        args = list(node.args)
        starred = any(a.star for a in args) or not args
        own = member.kind == "own" and member.name not in self.calling.outer
        protocol = (
            self.calling.protocol(member.name) if own and not self._is_chain(member) else None
        )
        if protocol is not None and not protocol.alike and not starred:
            return self._by_protocol(member.name, protocol, args)
        starred = starred or args[0].keyword is not None
        need = self.calling.need(member)
        several = len(args) > 1 and member.kind != "own"
        if member.makes:
            self.makes(member)
            self._all_plain(args)
            return PLAIN
        known = member.kind in ("stock", "own", "chain", "either", "none")
        if starred or not known or (several and need == "last"):
            self.calling.demote(member)
            need, known = "plain", False
        if need == "plain":
            self._all_plain(args)
            return self.calling.gives(member, PLAIN) if known else PLAIN
        self._all_plain(args[1:])
        return self._called_with(member, args[0].value, need)

    def _by_protocol(self, key: str, protocol: Protocol, args: list[Any]) -> Value:
        names = self.calling.parameters.get(key, [])
        for place, argument in enumerate(args):
            name = argument.keyword.value if argument.keyword else ""
            name = name or (names[place] if place < len(names) else "")
            turn = self.last if name in protocol.last else self.plain
            turn(argument.value)
        return protocol.answer

    def _private(self, key: str, args: list[Any]) -> Value:
        if any(a.star for a in args):
            raise Immovable
        return self._by_protocol(key, self.calling.protocol(key), args)

    def _is_chain(self, member: Member) -> bool:
        return "" in self.building.members.get(member.name, {})

    def _called_with(self, member: Member, node: Any, need: str) -> Value:
        if need == "last":
            given = self.calling.gives(member, Value("last"))
            return self.calling.gives(member, self.last(node, given.rank))
        given = self.read(node)
        if given.kind not in ("last", "plain"):
            self.plain(node)
            return PLAIN
        self.plan.wraps.pop(node, None)
        if given.origins:
            return given  # it is seen later what the argument is
        return self.calling.gives(member, given)

    # methods

    def _method(self, node: cst.Call, func: cst.Attribute) -> Value:
        owner, name, args = func.value, func.attr.value, list(node.args)
        key = f"{self.owner}.{name}" if dotted(owner) == "self" else ""
        if key in self.calling.private:
            return self._private(key, args)
        held = self.module(owner)
        if held is not None and name in tables.ASKED:
            self._all_plain(args)
            return PLAIN
        found = self.read(owner)
        if found.kind in ("list", "tuple"):
            return self._of_list(name, node, owner, found, args)
        if name in tables.PAIRWISE and args and not args[0].star:
            self._all_plain(args[1:])
            return self.pair(owner, args[0].value)
        if found.last:
            answer = self._method_of_last(name, node, found, args)
            if answer is not None:
                self.plan.wraps.pop(owner, None)
                return answer
            if name.endswith("_"):
                raise Immovable  # it writes into what would be turned
        self._all_plain(args)
        if found.kind == "plain" and _value_of(name) in tables.ALIKE_FUNCTIONS:
            return found
        self.plain(owner)
        if name in tables.SHAPED and len(args) > 1 and not any(a.star for a in args):
            return Value(rank=len(args))
        return Value(rank=found.rank + 1) if name == "unsqueeze" and found.rank else PLAIN

    def _method_of_last(self, name: str, node: Any, found: Value, args: Any) -> Value | None:
        if name in _SAME:
            return PLAIN
        if name == "size" and len(args) == 1 and self._move(args[0].value, found.rank):
            return PLAIN
        order = self._order(node)
        if order in _LAST_ORDERS and found.rank == len(order):
            self.plan.dropped.add(node)
            return Value(rank=found.rank)
        return self._of_last(_value_of(name), node, found, args)

    def _of_list(self, name: str, node: Any, owner: Any, found: Value, args: Any) -> Value:
        if found.kind == "list":
            if name == "pop":
                self._all_plain(args)
                return found.items[0]
            if name in ("append", "insert") and isinstance(owner, cst.Name) and args:
                self._all_plain(args[:-1])
                self._into(owner.value, found, args[-1].value)
                return PLAIN
            if name in ("reverse", "clear"):
                return PLAIN
        self._all_plain(args)
        self.plain(owner)
        return PLAIN

    def _into(self, name: str, held: Value, node: Any) -> None:
        """An item that is added to a list."""
        added = self.read(node)
        if held.items[0].last or (added.last and held.items[0] is NOTHING):
            self.env[name] = Value("list", (self.last(node),))
        else:
            given = self.plain(node)
            if held.items[0] is NOTHING:
                self.env[name] = Value("list", (given,))


def _value_of(name: str) -> str:
    """The function that a method in place assigns, where it treats every item alike."""
    return name[:-1] if name[:-1] in tables.ALIKE_FUNCTIONS and name[-1] == "_" else name
