"""Statements of a method: what its names hold from one to the next."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from typing import Any

import libcst as cst

from torch2mlx.porting.layout import calls  # noqa: F401 (it registers how calls are read)
from torch2mlx.porting.layout.binding import bind, bind_item, unpack
from torch2mlx.porting.layout.expressions import asked_for_shape, is_number, opaque, unturned
from torch2mlx.porting.layout.reading import (
    Reading,
    module_of,
    read,
    read_beside,
    read_plain,
    read_test,
    unfollowed,
)
from torch2mlx.porting.layout.values import PLAIN, Immovable, Plan, Value, joined
from torch2mlx.porting.scopes.traversal import children

_ROUNDS = 5
_ENDS = (cst.Return, cst.Raise, cst.Continue, cst.Break)


class Promote(Exception):
    """A name that holds both layouts: it has to be channels last from the start."""


def read_method(reading: Reading, node: cst.FunctionDef, given: Mapping[str, Value]) -> None:
    """Reads the body; `given` has the values of arguments."""
    reading.env = dict(given)
    reading.built = node in reading.file.run.members.ran
    _block(reading, node.body.body)


def _block(reading: Reading, body: Any) -> bool:
    """Reads statements; whether the last one goes elsewhere."""
    for statement in body:
        if isinstance(statement, cst.SimpleStatementLine):
            for part in statement.body:
                reading.seen = {}
                _simple(reading, part)
                if isinstance(part, _ENDS):
                    return True
        else:
            reading.seen = {}
            if _compound(reading, statement):
                return True
    return False


def _simple(reading: Reading, node: Any) -> None:
    if isinstance(node, cst.Assign):
        _assign(reading, [t.target for t in node.targets], node.value)
    elif isinstance(node, cst.AnnAssign):
        if node.value is not None:
            _assign(reading, [node.target], node.value)
    elif isinstance(node, cst.AugAssign):
        _change(reading, node)
    elif isinstance(node, cst.Return):
        _return(reading, node)
    elif isinstance(node, cst.Expr):
        read(reading, node.value)
    elif isinstance(node, (cst.Continue, cst.Break)):
        reading.jumps.append(dict(reading.env))
    elif isinstance(node, cst.Del):
        return
    else:
        for child in children(node):
            unfollowed(reading, child)


def _return(reading: Reading, node: cst.Return) -> None:
    if node.value is None:
        return
    if reading.answers_plain:
        read_plain(reading, node.value)
        reading.answers.append((node.value, read(reading, node.value)))
        return
    found = read(reading, node.value)
    reading.plan.wraps.pop(node.value, None)
    if not found.holds:
        found = read_plain(reading, node.value)
    reading.answers.append((node.value, found))


def _assign(reading: Reading, targets: list[Any], value: Any) -> None:
    member = module_of(reading, value)
    if member is not None and all(isinstance(t, cst.Name) for t in targets):
        for target in targets:
            reading.modules[target.value] = member
            reading.env.pop(target.value, None)
        return
    if len(targets) == 1 and _unpacks_shape(reading, targets[0], value):
        return
    found = read(reading, value)
    reading.plan.wraps.pop(value, None)
    for target in targets:
        bind(reading, target, found, value)


def _unpacks_shape(reading: Reading, target: Any, value: Any) -> bool:
    """n, c, h, w = x.shape"""
    found = asked_for_shape(reading, value) if isinstance(target, cst.Tuple) else None
    if found is None or not found.rank or len(target.elements) != found.rank:
        return False
    if not all(isinstance(e, cst.Element) for e in target.elements):
        return False
    unturned(reading, value)
    reading.plan.unpacked.add(target)
    unpack(reading, target, PLAIN, None)
    return True


def _change(reading: Reading, node: cst.AugAssign) -> None:
    """x += y."""
    held = read(reading, node.target)
    if not held.holds:
        read_plain(reading, node.value)
        if isinstance(node.target, cst.Name):
            reading.env[node.target.value] = Value(rank=held.rank)
        return
    found = read(reading, node.value)
    if held.kind == "list" and found.kind == "list" and found.items[0].last:
        return
    product = isinstance(node.operator, cst.MatrixMultiplyAssign)
    if not held.last or product or not isinstance(node.target, cst.Name):
        raise Immovable
    if found.last or is_number(reading, node.value):
        return
    if found.kind != "plain" or not held.rank:
        raise Immovable
    read_beside(reading, node.value, held.rank)


def _compound(reading: Reading, node: Any) -> bool:
    if isinstance(node, cst.If):
        return _if(reading, node)
    if isinstance(node, (cst.For, cst.While)):
        _loop(reading, node)
    elif isinstance(node, cst.With):
        for item in node.items:
            read_plain(reading, item.item)
        return _block(reading, node.body.body)
    elif isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        opaque(reading, node)
    else:
        opaque(reading, node)
    return False


def _if(reading: Reading, node: Any) -> bool:
    read_test(reading, node.test)
    before, modules = dict(reading.env), dict(reading.modules)
    ended = _block(reading, node.body.body)
    after, held = reading.env, reading.modules
    reading.env, reading.modules, reading.seen = before, modules, {}
    other = False
    if isinstance(node.orelse, cst.If):
        other = _if(reading, node.orelse)
    elif node.orelse is not None:
        other = _block(reading, node.orelse.body.body)
    if ended and other:
        return True
    if other:
        reading.env, reading.modules = after, held
    elif not ended:
        reading.env = _merged(reading, [after, reading.env])
        reading.modules = {k: v for k, v in held.items() if reading.modules.get(k) == v}
    return False


def _merged(reading: Reading, ways: list[dict[str, Value]]) -> dict[str, Value]:
    """What names hold where ways come together."""
    found: dict[str, Value] = {}
    for name in dict.fromkeys(n for way in ways for n in way):
        values = [way[name] for way in ways if name in way]
        one = joined(values)
        if one is None:
            if not any(v.last for v in values) or name in reading.promoted:
                raise Immovable
            reading.promoted.add(name)
            raise Promote(name)
        found[name] = one
    return found


def _loop(reading: Reading, node: Any) -> None:
    outer, reading.jumps = reading.jumps, []
    for _ in range(_ROUNDS):
        start, kept = dict(reading.env), saved(reading.plan)
        reading.seen = {}
        if isinstance(node, cst.For):
            bind_item(reading, node.target, node.iter)
        else:
            read_test(reading, node.test)
        _block(reading, node.body.body)
        merged = _merged(reading, [start, reading.env, *reading.jumps])
        reading.jumps = []
        settled = merged == {**merged, **start}
        reading.env = merged
        if settled:
            break
        restore(reading.plan, kept)
    else:
        raise Immovable
    reading.jumps, reading.seen = outer, {}
    if node.orelse is not None:
        _block(reading, node.orelse.body.body)


def saved(plan: Plan) -> Plan:
    """A plan as it is."""
    kept = copy(plan)
    for part in fields(plan):
        setattr(kept, part.name, copy(getattr(plan, part.name)))
    return kept


def restore(plan: Plan, kept: Plan) -> None:
    """Sets a plan to what it was."""
    for part in fields(plan):
        setattr(plan, part.name, copy(getattr(kept, part.name)))
