"""What names hold that are assigned, or that loops give their items."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.members import item_of, member_of
from torch2mlx.porting.layout.reading import Reading, read, read_last, read_plain, unfollowed
from torch2mlx.porting.layout.values import PLAIN, Immovable, Member, Value
from torch2mlx.porting.scopes.import_table import dotted


def bind(reading: Reading, target: Any, found: Value, value: Any) -> None:
    if isinstance(target, cst.Name):
        reading.modules.pop(target.value, None)
        reading.env[target.value] = _kept(reading, target.value, found, value)
    elif isinstance(target, (cst.Tuple, cst.List)):
        unpack(reading, target, found, value)
    else:
        if value is not None:
            read_plain(reading, value)
        elif found.holds:
            raise Immovable  # a part of a whole that nothing turns back
        if isinstance(target, cst.Subscript):
            if read(reading, target.value).holds:
                raise Immovable  # it writes into what would be turned
            for element in target.slice:
                unfollowed(reading, element.slice)


def _kept(reading: Reading, name: str, found: Value, value: Any) -> Value:
    """What a name gets that may have to be channels last wherever it is."""
    if name not in reading.promoted or found.last or found.kind == "none":
        return found
    if found.kind != "plain" or value is None or not reading.file.types.of(value).tensor:
        raise Immovable
    return read_last(reading, value)


def unpack(reading: Reading, target: Any, found: Value, value: Any) -> None:
    parts = [e.value for e in target.elements]
    items = found.items
    if found.kind == "list" and items:
        items = (items[0],) * len(parts)
    starred = any(isinstance(e, cst.StarredElement) for e in target.elements)
    if starred or len(items) != len(parts):
        if value is not None:
            read_plain(reading, value)
        items = (PLAIN,) * len(parts)
    elements = getattr(value, "elements", None)
    for place, part in enumerate(parts):
        given = elements[place].value if elements and len(elements) == len(parts) else None
        bind(reading, part, items[place], given)


def bind_item(reading: Reading, target: Any, iterated: Any) -> None:
    """A loop's names: what an item of a list is."""
    name = dotted(iterated.func) if isinstance(iterated, cst.Call) else ""
    args = [a.value for a in iterated.args if a.keyword is None] if name else []
    parts = [e.value for e in target.elements] if isinstance(target, cst.Tuple) else []
    if name == "enumerate" and args and len(parts) == 2:
        bind(reading, parts[0], PLAIN, None)
        bind_item(reading, parts[1], args[0])
    elif name == "zip" and len(parts) == len(args):
        for part, given in zip(parts, args, strict=True):
            bind_item(reading, part, given)
    elif name in ("reversed", "list", "tuple", "iter") and len(args) == 1:
        bind_item(reading, target, args[0])
    else:
        held = member_of(reading.file.run, iterated, reading.scope())
        if held.kind in ("list", "chain"):
            _bind_module(reading, target, item_of(held))
            return
        found = read(reading, iterated)
        if found.kind == "list":
            reading.plan.wraps.pop(iterated, None)
            bind(reading, target, found.items[0], None)
        else:
            read_plain(reading, iterated)
            bind(reading, target, PLAIN, None)


def _bind_module(reading: Reading, target: Any, held: Member) -> None:
    if isinstance(target, cst.Name):
        reading.modules[target.value] = held
        reading.env.pop(target.value, None)
    elif isinstance(target, cst.Tuple) and len(held.items) == len(target.elements):
        for part, item in zip(target.elements, held.items, strict=True):
            _bind_module(reading, part.value, item)
    else:
        raise Immovable
