"""What statements read and write, and the calls in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import libcst as cst

from torch2mlx.source.names import dotted


#: Methods that change the list, dict or set they are called on.
_CHANGING = ("append", "extend", "insert", "add", "appendleft", "setdefault")


class _Names(cst.CSTVisitor):
    def __init__(self) -> None:
        self.loads: list[str] = []
        self.stores: list[str] = []
        self.calls: list[cst.Call] = []
        self._bound: list[str] = []

    def _store(self, target: Any) -> None:
        if isinstance(target, (cst.Tuple, cst.List)):
            for part in target.elements:
                self._store(part.value)
        elif isinstance(target, (cst.Name, cst.Attribute)):
            self.stores.append(dotted(target))
            if isinstance(target, cst.Attribute):
                self.loads.append(dotted(target.value))
        elif isinstance(target, cst.Subscript):  # x[i] = v changes x
            self.stores.append(dotted(target.value))
            target.visit(self)
        elif isinstance(target, cst.StarredElement):
            self._store(target.value)

    def visit_Assign(self, node: cst.Assign) -> bool:
        node.value.visit(self)
        for target in node.targets:
            self._store(target.target)
        return False

    def visit_AugAssign(self, node: cst.AugAssign) -> bool:
        node.value.visit(self)
        node.target.visit(self)
        self._store(node.target)
        return False

    def visit_AnnAssign(self, node: cst.AnnAssign) -> bool:
        if node.value is not None:
            node.value.visit(self)
            self._store(node.target)
        return False

    def visit_For(self, node: cst.For) -> bool:
        node.iter.visit(self)
        self._store(node.target)
        node.body.visit(self)
        return False

    def visit_AsName(self, node: cst.AsName) -> bool:
        self._store(node.name)
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        name = dotted(node)
        if name:
            self.loads.append(name)
            return False
        node.value.visit(self)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        self.loads.append(node.value)

    def visit_Arg(self, node: cst.Arg) -> bool:
        node.value.visit(self)
        return False

    def visit_Call(self, node: cst.Call) -> None:
        self.calls.append(node)
        if isinstance(node.func, cst.Attribute) and node.func.attr.value in _CHANGING:
            self.stores.append(dotted(node.func.value))


def _scanned(node: Any) -> _Names:
    found = _Names()
    node.visit(found)
    return found


def loads(node: Any) -> set[str]:
    """Names and dotted names that a node reads; of `a.b` also `a`."""
    names = _scanned(node).loads
    return {part for name in names for part in _prefixes(name)}


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        yield ".".join(parts[:i])


def stores(node: Any) -> list[str]:
    """Names that a node writes, in order."""
    return list(dict.fromkeys(_scanned(node).stores))


def calls(node: Any) -> list[cst.Call]:
    """All calls in a node, outermost first."""
    return _scanned(node).calls


def exposed(statements: list[Any]) -> set[str]:
    """Plain names that a row of statements reads before it has surely written them."""
    return _exposed(statements, set())


def _exposed(statements: Sequence[Any], written: set[str]) -> set[str]:
    found: set[str] = set()
    for statement in statements:
        if isinstance(statement, cst.With):
            found |= set().union(*(_plain(i) for i in statement.items)) - written
            found |= _exposed(statement.body.body, written)
        elif isinstance(statement, (cst.For, cst.If, cst.While)):
            head = statement.iter if isinstance(statement, cst.For) else statement.test
            found |= _plain(head) - written
            inner = set(written)
            if isinstance(statement, cst.For):
                inner |= set(stores(statement.target)) | _plain(statement.target)
            found |= _exposed(statement.body.body, inner)
            if statement.orelse is not None:
                found |= _plain(statement.orelse) - written
        else:
            found |= _plain(statement) - written
            written |= set(stores(statement))
    return found


def _plain(node: Any) -> set[str]:
    return {n for n in loads(node) if "." not in n}


def called_method(statement: Any, name: str) -> cst.Call | None:
    """The call in `x.name(...)` as a statement, alone or assigned; None for other statements."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    inner = statement.body[0]
    value = inner.value if isinstance(inner, (cst.Expr, cst.Assign)) else None
    if isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute):
        return value if value.func.attr.value == name else None
    return None
