"""What statements read and write, and the calls in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import children, walk

#: Methods that change the list, dict or set they are called on.
_CHANGING: tuple[str, ...] = (
    "append",
    "extend",
    "insert",
    "add",
    "appendleft",
    "setdefault",
    "reverse",
    "sort",
)
_CHANGING += ("pop", "popleft", "popitem", "remove", "discard", "clear", "update", "extendleft")
_CHANGING += ("rotate",)


def _changes(name: str) -> bool:
    """Whether a method changes what it is called on: torch's end in an underscore."""
    return name in _CHANGING or (name.endswith("_") and not name.endswith("__"))


class _Names:
    """Names that a node loads and stores, and its calls, outermost first."""

    def __init__(self, node: Any) -> None:
        self.loads: list[str] = []
        self.stores: list[str] = []
        self.bound: set[str] = set()  # of what is stored, names that get another value
        self.calls: list[cst.Call] = []
        self._visit(node)
        self.loaded = frozenset(part for name in self.loads for part in _prefixes(name))
        self.stored = list(dict.fromkeys(self.stores))

    def _visit(self, node: Any) -> None:
        rule = getattr(self, f"_of_{type(node).__name__}", None)
        if rule is not None:
            rule(node)
            return
        for child in children(node):
            self._visit(child)

    def _store(self, target: Any) -> None:
        if isinstance(target, (cst.Tuple, cst.List)):
            for part in target.elements:
                self._store(part.value)
        elif isinstance(target, (cst.Name, cst.Attribute)):
            self.stores.append(dotted(target))
            self._reach(target)
            if isinstance(target, cst.Attribute):
                self.loads.append(dotted(target.value))
            else:
                self.bound.add(target.value)
        elif isinstance(target, cst.Subscript):  # x[i] = v changes x
            self.stores.append(dotted(target.value))
            self._reach(target)
            self._visit(target)
        elif isinstance(target, cst.StarredElement):
            self._store(target.value)

    def _reach(self, node: Any) -> None:
        """Notes the tensor whose numbers a change of a part of it, or of its data, changes."""
        base = node
        while isinstance(base, cst.Subscript) or is_data(base):
            base = base.value
        if base is not node and dotted(base) not in ("", "self"):
            self.stores.append(dotted(base))

    def _of_Assign(self, node: cst.Assign) -> None:
        self._visit(node.value)
        for target in node.targets:
            self._store(target.target)

    def _of_AugAssign(self, node: cst.AugAssign) -> None:
        self._visit(node.value)
        self._visit(node.target)
        self._store(node.target)

    def _of_AnnAssign(self, node: cst.AnnAssign) -> None:
        if node.value is not None:
            self._visit(node.value)
            self._store(node.target)

    def _of_For(self, node: cst.For) -> None:
        self._visit(node.iter)
        self._store(node.target)
        self._visit(node.body)

    def _of_FunctionDef(self, node: cst.FunctionDef) -> None:
        """The function's name is written; read is what its body takes from around it."""
        inner = _Names(node.body)
        own = inner.bound | _parameters(node)
        own -= {item.name.value for item in _declared(node.body)}
        self.loads += [name for name in inner.loads if name.partition(".")[0] not in own]
        self.stores += [name for name in inner.stores if name.partition(".")[0] not in own]
        self.stores.append(node.name.value)
        self.bound.add(node.name.value)
        self.calls += inner.calls
        for part in (*node.decorators, node.params):
            self._visit(part)

    def _of_Param(self, node: cst.Param) -> None:
        if node.default is not None:
            self._visit(node.default)

    def _of_AsName(self, node: cst.AsName) -> None:
        self._store(node.name)

    def _of_Attribute(self, node: cst.Attribute) -> None:
        name = dotted(node)
        if name:
            self.loads.append(name)
        else:
            self._visit(node.value)

    def _of_Name(self, node: cst.Name) -> None:
        self.loads.append(node.value)

    def _of_Arg(self, node: cst.Arg) -> None:
        self._visit(node.value)

    def _of_Call(self, node: cst.Call) -> None:
        self.calls.append(node)
        if isinstance(node.func, cst.Attribute) and _changes(node.func.attr.value):
            self.stores.append(dotted(node.func.value))
            self._reach(node.func.value)
        self._visit(node.func)
        for argument in node.args:
            self._visit(argument.value)


def is_data(node: Any) -> bool:
    """Whether an expression is the data of a tensor, `x.data`."""
    return isinstance(node, cst.Attribute) and node.attr.value == "data"


def _parameters(node: cst.FunctionDef) -> set[str]:
    return {part.name.value for part in walk(node.params) if isinstance(part, cst.Param)}


def _declared(body: Any) -> Iterator[Any]:
    """The names that a function's `global` and `nonlocal` say are those of around it."""
    for part in walk(body):
        if isinstance(part, (cst.Global, cst.Nonlocal)):
            yield from part.names


class Scanner:
    """Remembers what it found: statements are asked about many times."""

    def __init__(self) -> None:
        self._known: dict[cst.CSTNode, _Names] = {}
        self.single: set[str] = set()  # names of modules of one parameter, read as `name.grad`
        #: What a node changes beside what is written in it.
        self.beside: Callable[[Any], list[str]] | None = None

    def written(self, node: Any) -> list[str]:
        """Names that a node writes itself, in order."""
        return self.of(node).stored

    def of(self, node: Any) -> _Names:
        """What a node reads, writes and calls."""
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = _Names(node)
        return found

    def loads(self, node: Any) -> frozenset[str]:
        """Names and dotted names that a node reads; of `a.b` also `a`."""
        found = self.of(node).loaded
        return found if self.beside is None else found.union(self.beside(node))

    def stores(self, node: Any) -> list[str]:
        """Names that a node writes, in order."""
        found = self.of(node).stored
        return found if self.beside is None else list(dict.fromkeys([*found, *self.beside(node)]))

    def calls(self, node: Any) -> list[cst.Call]:
        """All calls in a node, outermost first."""
        return self.of(node).calls

    def exposed(self, statements: Sequence[Any]) -> set[str]:
        """Plain names that a row of statements reads before it has surely written them."""
        return self._exposed(statements, set())

    def _exposed(self, statements: Sequence[Any], written: set[str]) -> set[str]:
        found: set[str] = set()
        within: set[str] = set()  # what functions read, when they are called
        for statement in statements:
            if isinstance(statement, cst.FunctionDef):
                within |= self._plain(statement)
                written.add(statement.name.value)
            elif isinstance(statement, cst.With):
                found |= set().union(*(self._plain(i) for i in statement.items)) - written
                found |= self._exposed(statement.body.body, written)
            elif isinstance(statement, (cst.For, cst.If, cst.While)):
                found |= self._branching(statement, written)
            else:
                found |= self._plain(statement) - written
                written |= set(self.stores(statement))
        return found | (within - written)

    def _branching(self, statement: Any, written: set[str]) -> set[str]:
        """Adds to `written` what every way through the statement writes."""
        head = statement.iter if isinstance(statement, cst.For) else statement.test
        found, inner, other = self._plain(head) - written, set(written), set(written)
        if isinstance(statement, cst.For):
            inner |= self._plain(statement.target)
        found |= self._exposed(statement.body.body, inner)
        if isinstance(statement.orelse, cst.If):
            found |= self._branching(statement.orelse, other)
        elif statement.orelse is not None:
            found |= self._exposed(statement.orelse.body.body, other)
        if isinstance(statement, cst.If):
            ways = [(inner, statement.body.body), (other, _last(statement.orelse))]
            on = [names for names, body in ways if not _leaves(body)]
            written |= set.intersection(*on) if on else set()
        return found

    def _plain(self, node: Any) -> set[str]:
        return {n for n in self.loads(node) if "." not in n}


def _last(orelse: Any) -> Sequence[Any]:
    """The statements of an `else`; none of an `elif`, which says for itself where it goes."""
    return orelse.body.body if isinstance(orelse, cst.Else) else ()


def _leaves(body: Sequence[Any]) -> bool:
    """Whether a block ends by leaving: what it wrote is not read behind it."""
    last = body[-1] if body else None
    last = last.body[-1] if isinstance(last, cst.SimpleStatementLine) else last
    return isinstance(last, (cst.Return, cst.Raise, cst.Continue, cst.Break))


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        yield ".".join(parts[:i])


def loads(node: Any) -> frozenset[str]:
    """Names and dotted names that a node reads; of `a.b` also `a`."""
    return _Names(node).loaded


def stores(node: Any) -> list[str]:
    """Names that a node writes, in order."""
    return _Names(node).stored


def plain_target(statement: Any) -> str:
    """The one plain name that a statement assigns, alone in its line; "" of others."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return ""
    made = statement.body[0]
    if not isinstance(made, cst.Assign) or len(made.targets) != 1:
        return ""
    target = made.targets[0].target
    return target.value if isinstance(target, cst.Name) else ""


def runs_once(function: Any, module: cst.Module) -> bool:
    """Whether a function is called by one line of its file alone, which stands in no loop; a file
    is."""
    if not isinstance(function, cst.FunctionDef):
        return True
    name = function.name.value
    uses = sum(isinstance(n, cst.Name) and n.value == name for n in walk(module))
    lines: list[Any] = list(module.body)
    lines += [s for b in module.body if isinstance(b, cst.If) for s in b.body.body]
    plain = (s for s in lines if isinstance(s, (cst.SimpleStatementLine, cst.BaseSmallStatement)))
    called = [n for s in plain for n in walk(s) if isinstance(n, cst.Call)]
    return uses == 2 and any(dotted(c.func) == name for c in called)


def called_method(statement: Any, name: str) -> Any:
    """The call in `x.name(...)` as a statement, alone or assigned; None for other statements."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    inner = statement.body[0]
    value = inner.value if isinstance(inner, (cst.Expr, cst.Assign)) else None
    if isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute):
        return value if value.func.attr.value == name else None
    return None
