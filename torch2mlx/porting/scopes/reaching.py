"""Which assignments of a function give a name the value that it has at a place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import children, walk


@dataclass(frozen=True, eq=False)
class Binding:
    """A name gets a value, or an item of it; `value` is None where it is not seen."""

    value: Any
    item: bool
    statement: Any
    place: int | None = None  # of the item, where it is a number that is known


class Bindings:
    """The names that a function binds itself, or the file outside of functions."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.parents: dict[Any, Any] = {}
        self.order: dict[Any, int] = {}
        self.found: dict[str, list[Binding]] = {}
        body = scope.body if isinstance(scope, cst.Module) else scope.body.body
        for statement in body:
            self._enter(statement, scope)

    def reaching(self, name: str, node: Any) -> list[Binding]:
        """The bindings of a name that may hold at a node of the scope, which is in a statement."""
        at, held = self.statement(node), self.found.get(name, [])
        if at is None:
            return held
        around, number, found = self._path(at), self.order[at], []
        for binding in sorted(held, key=lambda b: self.order[b.statement], reverse=True):
            own = self._path(binding.statement)
            loops = {n for n, _ in own if isinstance(n, (cst.For, cst.While))}
            again = any(n in loops for n, _ in around)
            before = self.order[binding.statement] < number or binding.statement in dict(around)
            blocks = dict(around)
            meets = all(blocks.get(n, i) == i for n, i in own)
            if (before and meets) or again:
                found.append(binding)
            if before and all(pair in around for pair in own):
                break
        return found

    def surely(self, name: str, node: Any) -> bool:
        """Whether every way to a node of the scope binds a name before it."""
        at = self.statement(node)
        held = self.found.get(name, [])
        return any(b.statement is not at and self.leads(b.statement, at) for b in held) or any(
            isinstance(b.statement, cst.For) and b.statement is at for b in held
        )

    def statement(self, node: Any) -> Any:
        """The statement of the scope that a node is in."""
        while node is not None and node not in self.order:
            node = self.parents.get(node)
        return node

    def loops(self, node: Any) -> set[Any]:
        """The loops of the scope around a node, comprehensions too."""
        found = set()
        while node is not None:
            if isinstance(node, (cst.For, cst.While, *_COMPREHENSIONS)):
                found.add(node)
            node = self.parents.get(node)
        return found

    def _path(self, statement: Any) -> tuple[tuple[Any, int], ...]:
        """The compound statements around one, each with the branch that holds it."""
        found = []
        child, node = statement, self.parents.get(statement)
        while node is not None:
            if isinstance(node, _COMPOUND):
                found.append((node, next(i for i, c in enumerate(children(node)) if c is child)))
            child, node = node, self.parents.get(node)
        return tuple(reversed(found))

    def exclude(self, one: Any, other: Any) -> bool:
        """Whether two nodes are in branches of which only one runs."""
        blocks = dict(self._path(self.statement(one)))
        path = self._path(self.statement(other))
        branching = [(n, i) for n, i in path if isinstance(n, cst.If)]
        return any(blocks.get(n, i) != i for n, i in branching)

    def leads(self, one: Any, other: Any) -> bool:
        """Whether every way to a statement leads through another one."""
        around = self._path(other)
        inside = all(pair in around for pair in self._path(one))
        return inside and self.order[one] <= self.order[other]

    def _enter(self, node: Any, parent: Any) -> None:
        self.parents[node] = parent
        if isinstance(node, cst.BaseStatement):
            self.order[node] = len(self.order)
            self._bind(node)
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            return
        for child in children(node):
            self._enter(child, node)

    def _bind(self, node: Any) -> None:
        if isinstance(node, cst.For):
            self._targets(node.target, node.iter, True, node)
        elif isinstance(node, cst.With):
            for item in node.items:
                if item.asname is not None:
                    self._targets(item.asname.name, None, False, node)
        elif isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._put(node.name.value, node, False, node)
        for small in node.body if isinstance(node, cst.SimpleStatementLine) else ():
            self._small(small, node)

    def _small(self, small: Any, node: Any) -> None:
        if isinstance(small, cst.Assign):
            for target in small.targets:
                self._targets(target.target, small.value, False, node)
        elif isinstance(small, cst.AnnAssign) and small.value is not None:
            self._targets(small.target, small.value, False, node)
        elif isinstance(small, (cst.Import, cst.ImportFrom)):
            return
        for part in walk(small):
            if isinstance(part, cst.NamedExpr):
                self._targets(part.target, part.value, False, node)

    def _targets(self, target: Any, value: Any, item: bool, node: Any) -> None:
        if isinstance(target, (cst.Name, cst.Attribute)):
            if dotted(target):
                self._put(dotted(target), value, item, node)
            return
        parts = getattr(target, "elements", ())
        listed = isinstance(value, (cst.Tuple, cst.List)) and not item
        whole = listed and len(value.elements) == len(parts)
        starred = any(isinstance(e, cst.StarredElement) for e in parts)
        for i, part in enumerate(parts):
            if whole and not starred:
                self._targets(part.value, value.elements[i].value, False, node)
            elif isinstance(part.value, cst.Name):
                place = None if item or starred else i
                binding = Binding(value, True, node, place)
                self.found.setdefault(part.value.value, []).append(binding)
            else:
                self._targets(part.value, value, True, node)

    def _put(self, name: str, value: Any, item: bool, node: Any) -> None:
        self.found.setdefault(name, []).append(Binding(value, item, node))


_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)
_COMPOUND = (cst.If, cst.For, cst.While, cst.With, cst.Try, cst.TryStar, cst.Match)


def returns(function: Any) -> Iterator[Any]:
    """What a function may give."""
    if isinstance(function, cst.Lambda):
        yield function.body
        return
    waiting = list(children(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, cst.Return) and node.value is not None:
            yield node.value
        elif not isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.BaseExpression)):
            waiting += children(node)


def bound_within(held: Bindings, node: Any) -> tuple[Any, Any] | None:
    """The comprehension or lambda that binds a name where it stands, and what it goes over."""
    name, around = node.value, held.parents.get(node)
    while around is not None and around not in held.order:
        if isinstance(around, _COMPREHENSIONS):
            over: Any = around.for_in
            while over is not None:
                if name in {n.value for n in walk(over.target) if isinstance(n, cst.Name)}:
                    return around, over.iter
                over = over.inner_for_in
        elif isinstance(around, cst.Lambda):
            found = [p for p in around.params.params if p.name.value == name]
            if found:
                return around, None
        around = held.parents.get(around)
    return None
