"""Statements of a method: what its names hold from one to the next."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from typing import Any

import libcst as cst

from torch2mlx.porting.layout.calls import Caller
from torch2mlx.porting.layout.values import PLAIN, Immovable, Member, Plan, Value, joined
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import children

_ROUNDS = 5
_ENDS = (cst.Return, cst.Raise, cst.Continue, cst.Break)


class Promote(Exception):
    """A name that holds both layouts: it has to be channels last from the start."""


class Method(Caller):
    """Reads one method of a class."""

    def __init__(self, *args: Any, owner: str, promoted: set[str]) -> None:
        super().__init__(*args)
        self.owner, self.promoted = owner, promoted
        self.answers: list[tuple[Any, Value]] = []
        self.answers_plain = True
        self._jumps: list[dict[str, Value]] = []

    def scope(self) -> Mapping[str, Member]:
        return {"self": Member("self", self.owner), **self.modules}

    def run(self, node: cst.FunctionDef, given: Mapping[str, Value]) -> None:
        """Reads the body; `given` has the values of arguments."""
        self.env = dict(given)
        self.built = node in self.building.ran
        self.block(node.body.body)

    def block(self, body: Any) -> bool:
        """Reads statements; whether the last one goes elsewhere."""
        for statement in body:
            if isinstance(statement, cst.SimpleStatementLine):
                for part in statement.body:
                    self.seen = {}
                    self._simple(part)
                    if isinstance(part, _ENDS):
                        return True
            else:
                self.seen = {}
                if self._compound(statement):
                    return True
        return False

    def _simple(self, node: Any) -> None:
        if isinstance(node, cst.Assign):
            self._assign([t.target for t in node.targets], node.value)
        elif isinstance(node, cst.AnnAssign):
            if node.value is not None:
                self._assign([node.target], node.value)
        elif isinstance(node, cst.AugAssign):
            self._change(node)
        elif isinstance(node, cst.Return):
            self._return(node)
        elif isinstance(node, cst.Expr):
            self.read(node.value)
        elif isinstance(node, (cst.Continue, cst.Break)):
            self._jumps.append(dict(self.env))
        elif isinstance(node, cst.Del):
            return
        else:
            for child in children(node):
                self.whole(child)

    def _return(self, node: cst.Return) -> None:
        if node.value is None:
            return
        if self.answers_plain:
            self.plain(node.value)
            self.answers.append((node.value, self.read(node.value)))
            return
        found = self.read(node.value)
        self.plan.wraps.pop(node.value, None)
        if not found.holds:
            found = self.plain(node.value)
        self.answers.append((node.value, found))

    # assignments

    def _assign(self, targets: list[Any], value: Any) -> None:
        member = self.module(value)
        if member is not None and all(isinstance(t, cst.Name) for t in targets):
            for target in targets:
                self.modules[target.value] = member
                self.env.pop(target.value, None)
            return
        if len(targets) == 1 and self._unpacks_shape(targets[0], value):
            return
        found = self.read(value)
        self.plan.wraps.pop(value, None)
        for target in targets:
            self._bind(target, found, value)

    def _unpacks_shape(self, target: Any, value: Any) -> bool:
        """n, c, h, w = x.shape"""
        found = self.shaped(value) if isinstance(target, cst.Tuple) else None
        if found is None or not found.rank or len(target.elements) != found.rank:
            return False
        if not all(isinstance(e, cst.Element) for e in target.elements):
            return False
        self.unturned(value)
        self.plan.unpacked.add(target)
        self._unpack(target, PLAIN, None)
        return True

    def _bind(self, target: Any, found: Value, value: Any) -> None:
        if isinstance(target, cst.Name):
            self.modules.pop(target.value, None)
            self.env[target.value] = self._kept(target.value, found, value)
        elif isinstance(target, (cst.Tuple, cst.List)):
            self._unpack(target, found, value)
        else:
            if value is not None:
                self.plain(value)
            elif found.holds:
                raise Immovable  # a part of a whole that nothing turns back
            if isinstance(target, cst.Subscript):
                if self.read(target.value).holds:
                    raise Immovable  # it writes into what would be turned
                for element in target.slice:
                    self.whole(element.slice)

    def _kept(self, name: str, found: Value, value: Any) -> Value:
        """What a name gets that may have to be channels last wherever it is."""
        if name not in self.promoted or found.last or found.kind == "none":
            return found
        if found.kind != "plain" or value is None or not self.inference.of(value).tensor:
            raise Immovable
        return self.last(value)

    def _unpack(self, target: Any, found: Value, value: Any) -> None:
        parts = [e.value for e in target.elements]
        items = found.items
        if found.kind == "list" and items:
            items = (items[0],) * len(parts)
        starred = any(isinstance(e, cst.StarredElement) for e in target.elements)
        if starred or len(items) != len(parts):
            if value is not None:
                self.plain(value)
            items = (PLAIN,) * len(parts)
        elements = getattr(value, "elements", None)
        for place, part in enumerate(parts):
            given = elements[place].value if elements and len(elements) == len(parts) else None
            self._bind(part, items[place], given)

    def _change(self, node: cst.AugAssign) -> None:
        """x += y."""
        held = self.read(node.target)
        if not held.holds:
            self.plain(node.value)
            if isinstance(node.target, cst.Name):
                self.env[node.target.value] = Value(rank=held.rank)
            return
        found = self.read(node.value)
        if held.kind == "list" and found.kind == "list" and found.items[0].last:
            return
        product = isinstance(node.operator, cst.MatrixMultiplyAssign)
        if not held.last or product or not isinstance(node.target, cst.Name):
            raise Immovable
        if found.last or self.scalar(node.value):
            return
        if found.kind != "plain" or not held.rank:
            raise Immovable
        self.beside(node.value, held.rank)

    # compound statements

    def _compound(self, node: Any) -> bool:
        if isinstance(node, cst.If):
            return self._if(node)
        if isinstance(node, (cst.For, cst.While)):
            self._loop(node)
        elif isinstance(node, cst.With):
            for item in node.items:
                self.plain(item.item)
            return self.block(node.body.body)
        elif isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._opaque(node)
        else:
            self._opaque(node)
        return False

    def _if(self, node: Any) -> bool:
        self.test(node.test)
        before, modules = dict(self.env), dict(self.modules)
        ended = self.block(node.body.body)
        after, held = self.env, self.modules
        self.env, self.modules, self.seen = before, modules, {}
        other = False
        if isinstance(node.orelse, cst.If):
            other = self._if(node.orelse)
        elif node.orelse is not None:
            other = self.block(node.orelse.body.body)
        if ended and other:
            return True
        if other:
            self.env, self.modules = after, held
        elif not ended:
            self.env = self._merged([after, self.env])
            self.modules = {k: v for k, v in held.items() if self.modules.get(k) == v}
        return False

    def _merged(self, ways: list[dict[str, Value]]) -> dict[str, Value]:
        """What names hold where ways come together."""
        found: dict[str, Value] = {}
        for name in dict.fromkeys(n for way in ways for n in way):
            values = [way[name] for way in ways if name in way]
            one = joined(values)
            if one is None:
                if not any(v.last for v in values) or name in self.promoted:
                    raise Immovable
                self.promoted.add(name)
                raise Promote(name)
            found[name] = one
        return found

    def _loop(self, node: Any) -> None:
        outer, self._jumps = self._jumps, []
        for _ in range(_ROUNDS):
            start, kept = dict(self.env), saved(self.plan)
            self.seen = {}
            if isinstance(node, cst.For):
                self.bind_item(node.target, node.iter)
            else:
                self.test(node.test)
            self.block(node.body.body)
            merged = self._merged([start, self.env, *self._jumps])
            self._jumps = []
            settled = merged == {**merged, **start}
            self.env = merged
            if settled:
                break
            restore(self.plan, kept)
        else:
            raise Immovable
        self._jumps, self.seen = outer, {}
        if node.orelse is not None:
            self.block(node.orelse.body.body)

    def bind_item(self, target: Any, iterated: Any) -> None:
        """A loop's names: what an item of a list is."""
        name = dotted(iterated.func) if isinstance(iterated, cst.Call) else ""
        args = [a.value for a in iterated.args if a.keyword is None] if name else []
        parts = [e.value for e in target.elements] if isinstance(target, cst.Tuple) else []
        if name == "enumerate" and args and len(parts) == 2:
            self._bind(parts[0], PLAIN, None)
            self.bind_item(parts[1], args[0])
        elif name == "zip" and len(parts) == len(args):
            for part, given in zip(parts, args, strict=True):
                self.bind_item(part, given)
        elif name in ("reversed", "list", "tuple", "iter") and len(args) == 1:
            self.bind_item(target, args[0])
        else:
            held = self.building.value(iterated, self.scope())
            if held.kind in ("list", "chain"):
                self._bind_module(target, self.building.element(held))
                return
            found = self.read(iterated)
            if found.kind == "list":
                self.plan.wraps.pop(iterated, None)
                self._bind(target, found.items[0], None)
            else:
                self.plain(iterated)
                self._bind(target, PLAIN, None)

    def _bind_module(self, target: Any, held: Member) -> None:
        if isinstance(target, cst.Name):
            self.modules[target.value] = held
            self.env.pop(target.value, None)
        elif isinstance(target, cst.Tuple) and len(held.items) == len(target.elements):
            for part, item in zip(target.elements, held.items, strict=True):
                self._bind_module(part.value, item)
        else:
            raise Immovable


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
