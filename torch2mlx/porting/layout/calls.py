"""Calls in a forward: modules, functions of torch, methods of arrays."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout import tables
from torch2mlx.porting.layout.expressions import read_pair
from torch2mlx.porting.layout.functions import called, given_last, moves_axis
from torch2mlx.porting.layout.reading import (
    Reading,
    all_plain,
    axis_order,
    called_function,
    leaves,
    module_of,
    read,
    read_last,
    read_plain,
    reads,
)
from torch2mlx.porting.layout.values import NOTHING, PLAIN, Immovable, Member, Protocol, Value
from torch2mlx.porting.scopes.import_table import dotted

#: Questions whose answer is the same in both layouts.
_SAME = ("dim", "ndimension", "numel", "nelement", "is_floating_point", "element_size")
_LAST_ORDERS = ((0, 2, 1), (0, 2, 3, 1), (0, 2, 3, 4, 1))


@reads(cst.Call)
def _call(reading: Reading, node: cst.Call) -> Value:
    member = module_of(reading, node.func)
    if member is not None:
        return _module_call(reading, member, node)
    if dotted(node.func) == "getattr" and node.args and dotted(node.args[0].value) == "self":
        raise Immovable
    if dotted(node.func).startswith(tables.OF_LAYERS):
        module_of(reading, node.args[0].value)
        all_plain(reading, node.args[1:])
        return PLAIN
    name = called_function(reading.file.names, node)
    if name and node.args and not node.args[0].star:
        return called(reading, name, node, node.args[0].value, list(node.args[1:]))
    if isinstance(node.func, cst.Attribute) and not reading.file.names.of(node.func):
        return _method(reading, node, node.func)
    length = dotted(node.func) == "len" and len(node.args) == 1
    if length and read(reading, node.args[0].value).holds:
        return PLAIN
    if not dotted(node.func):
        read_plain(reading, node.func)
    all_plain(reading, node.args)
    return PLAIN


def _module_call(reading: Reading, member: Member, node: cst.Call) -> Value:
    args = list(node.args)
    starred = any(a.star for a in args) or not args
    own = member.kind == "own" and member.name not in reading.file.calling.outer
    protocol = (
        reading.file.calling.protocol(member.name)
        if own and not _is_chain(reading, member)
        else None
    )
    if protocol is not None and not protocol.alike and not starred:
        return _by_protocol(reading, member.name, protocol, args)
    starred = starred or args[0].keyword is not None
    need = reading.file.calling.need(member)
    several = len(args) > 1 and member.kind != "own"
    if member.makes:
        leaves(reading, member)
        all_plain(reading, args)
        return PLAIN
    known = member.kind in ("stock", "own", "chain", "either", "none")
    if starred or not known or (several and need == "last"):
        reading.file.calling.demote(member)
        need, known = "plain", False
    if need == "plain":
        all_plain(reading, args)
        return reading.file.calling.gives(member, PLAIN) if known else PLAIN
    all_plain(reading, args[1:])
    return _called_with(reading, member, args[0].value, need)


def _by_protocol(reading: Reading, key: str, protocol: Protocol, args: list[Any]) -> Value:
    names = reading.file.calling.parameters.get(key, [])
    for place, argument in enumerate(args):
        name = argument.keyword.value if argument.keyword else ""
        name = name or (names[place] if place < len(names) else "")
        turn = read_last if name in protocol.last else read_plain
        turn(reading, argument.value)
    return protocol.answer


def _private(reading: Reading, key: str, args: list[Any]) -> Value:
    if any(a.star for a in args):
        raise Immovable
    return _by_protocol(reading, key, reading.file.calling.protocol(key), args)


def _is_chain(reading: Reading, member: Member) -> bool:
    return "" in reading.file.run.members.held.get(member.name, {})


def _called_with(reading: Reading, member: Member, node: Any, need: str) -> Value:
    if need == "last":
        given = reading.file.calling.gives(member, Value("last"))
        return reading.file.calling.gives(member, read_last(reading, node, given.rank))
    given = read(reading, node)
    if given.kind not in ("last", "plain"):
        read_plain(reading, node)
        return PLAIN
    reading.plan.wraps.pop(node, None)
    if given.origins:
        return given  # it is seen later what the argument is
    return reading.file.calling.gives(member, given)


def _method(reading: Reading, node: cst.Call, func: cst.Attribute) -> Value:
    owner, name, args = func.value, func.attr.value, list(node.args)
    key = f"{reading.owner}.{name}" if dotted(owner) == "self" else ""
    if key in reading.file.calling.private:
        return _private(reading, key, args)
    held = module_of(reading, owner)
    if held is not None and name in tables.ASKED:
        all_plain(reading, args)
        return PLAIN
    found = read(reading, owner)
    if found.kind in ("list", "tuple"):
        return _of_list(reading, name, node, owner, found, args)
    if name in tables.PAIRWISE and args and not args[0].star:
        all_plain(reading, args[1:])
        return read_pair(reading, owner, args[0].value)
    if found.last:
        answer = _method_of_last(reading, name, node, found, args)
        if answer is not None:
            reading.plan.wraps.pop(owner, None)
            return answer
        if name.endswith("_"):
            raise Immovable  # it writes into what would be turned
    all_plain(reading, args)
    if found.kind == "plain" and _value_of(name) in tables.ALIKE_FUNCTIONS:
        return found
    read_plain(reading, owner)
    if name in tables.SHAPED and len(args) > 1 and not any(a.star for a in args):
        return Value(rank=len(args))
    return Value(rank=found.rank + 1) if name == "unsqueeze" and found.rank else PLAIN


def _method_of_last(
    reading: Reading, name: str, node: Any, found: Value, args: Any
) -> Value | None:
    if name in _SAME:
        return PLAIN
    if name == "size" and len(args) == 1 and moves_axis(reading, args[0].value, found.rank):
        return PLAIN
    order = axis_order(node)
    if order in _LAST_ORDERS and found.rank == len(order):
        reading.plan.dropped.add(node)
        return Value(rank=found.rank)
    return given_last(reading, _value_of(name), node, found, args)


def _of_list(reading: Reading, name: str, node: Any, owner: Any, found: Value, args: Any) -> Value:
    if found.kind == "list":
        if name == "pop":
            all_plain(reading, args)
            return found.items[0]
        if name in ("append", "insert") and isinstance(owner, cst.Name) and args:
            all_plain(reading, args[:-1])
            _into(reading, owner.value, found, args[-1].value)
            return PLAIN
        if name in ("reverse", "clear"):
            return PLAIN
    all_plain(reading, args)
    read_plain(reading, owner)
    return PLAIN


def _into(reading: Reading, name: str, held: Value, node: Any) -> None:
    """An item that is added to a list."""
    added = read(reading, node)
    if held.items[0].last or (added.last and held.items[0] is NOTHING):
        reading.env[name] = Value("list", (read_last(reading, node),))
    else:
        given = read_plain(reading, node)
        if held.items[0] is NOTHING:
            reading.env[name] = Value("list", (given,))


def _value_of(name: str) -> str:
    """The function that a method in place assigns, where it treats every item alike."""
    return name[:-1] if name[:-1] in tables.ALIKE_FUNCTIONS and name[-1] == "_" else name
