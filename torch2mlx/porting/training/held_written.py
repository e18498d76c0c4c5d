"""Names that hold weights which change behind them: written out where they are read, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import stores
from torch2mlx.porting.scopes.import_table import collect, dotted
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.scopes.traversal import children, walk, words_of
from torch2mlx.porting.training.held_weights import HeldWeights
from torch2mlx.porting.training.holding import GIVING, names_in
from torch2mlx.porting.types.infer import inferred
from torch2mlx.porting.types.known import Types

#: What gives its items once: a second reading of such a name finds nothing in torch.
_ONCE = ("parameters", "named_parameters")
_BINDING = (
    *(cst.AssignTarget, cst.AnnAssign, cst.AugAssign),
    *(cst.For, cst.NamedExpr, cst.Del),
)
_ONCE_FUNCTIONS = ("filter", "zip", "enumerate", "iter", "reversed", "chain", "itertools.chain")


def with_weights_read(module: Any, types: Types, report: Report) -> tuple[Any, Types]:
    """The file, in which no name holds weights that have changed since, and its types; what cannot
    be written so is refused."""
    read = HeldWeights(module, types)
    found = read.found
    for statement, target in read.shared.items():
        why = f"`{target}` becomes the very numbers of another weight, and changes with it"
        report.refuse(statement, f"{why}: copy_ takes their values", code=Code.UNCLEAR)
    if not found:
        return module, types
    written: dict[Any, tuple[str, Any]] = {}
    words = words_of(module)
    for statement, (name, _) in found.items():
        scope = _scope(module, statement)
        value = _written_out(statement, scope)
        if value is not None:
            target = statement.body[0].targets[0].target.value
            reads = _reads(scope, target)
            written |= {read: (target, value) for read in reads if read not in words}
            report.change(statement, target, "written out where it is read: weights change")
        else:
            report.refuse(statement, _why(statement, name), code=Code.UNCLEAR)
    if not written:
        return module, types
    made = passed(module, _WrittenOut(written))
    return made, inferred(made, collect(made), types.foreign, types.answers)


def _why(statement: Any, name: str) -> str:
    target = name
    for part in walk(statement) if isinstance(statement, cst.SimpleStatementLine) else ():
        if isinstance(part, cst.AssignTarget) and dotted(part.target):
            target = dotted(part.target)
    return (
        f"`{target}` holds the model's own weights, and is read after they have changed: take them "
        f"where they are read, or copies (copy.deepcopy, .clone())"
    )


def _scope(module: Any, statement: Any) -> Any:
    """The innermost function that a statement is in; the file where it is in none."""
    found, waiting = module, [(module, module)]
    while waiting:
        node, around = waiting.pop()
        if node is statement:
            return around
        inner = node if isinstance(node, cst.FunctionDef) else around
        if not isinstance(node, cst.BaseExpression):
            waiting += [(child, inner) for child in children(node)]
    return found


def _written_out(statement: Any, scope: Any) -> Any:
    """What a name of a scope can be written as wherever it is read; None where that may be
    something else there."""
    line = isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1
    assign = statement.body[0] if line else None
    if not isinstance(assign, cst.Assign) or len(assign.targets) != 1:
        return None
    target, value = assign.targets[0].target, assign.value
    if not isinstance(target, cst.Name) or _gives_once(value):
        return None
    own = {
        n for part in walk(value) if isinstance(part, cst.CompFor) for n in names_in(part.target)
    }
    free = {n.value for n in walk(value) if isinstance(n, cst.Name)} - own
    bound = list(_bound(scope))
    if bound.count(target.value) != 1 or any(bound.count(name) > 1 for name in free):
        return None
    if scope is not None and _changed_or_hidden(scope, statement, target.value, free):
        return None
    return value


def _gives_once(value: Any) -> bool:
    if isinstance(value, cst.GeneratorExp):
        return True
    if not isinstance(value, cst.Call):
        return False
    method = value.func.attr.value if isinstance(value.func, cst.Attribute) else ""
    return method in _ONCE or dotted(value.func) in _ONCE_FUNCTIONS


def _bound(scope: Any) -> Iterator[str]:
    """The names that a scope binds itself, once for each place."""
    if isinstance(scope, cst.FunctionDef):
        yield from (part.name.value for part in walk(scope.params) if isinstance(part, cst.Param))
    waiting = list(children(scope.body) if isinstance(scope, cst.FunctionDef) else scope.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            yield node.name.value
            continue
        if isinstance(node, _BINDING):
            yield from names_in(node.target)
        elif isinstance(node, cst.AsName):
            yield from names_in(node.name)
        elif isinstance(node, (cst.Global, cst.Nonlocal)):
            yield from (n for item in node.names for n in [item.name.value] * 2)
        waiting += children(node)


def _reads(scope: Any, name: str) -> list[Any]:
    """Where a name of a scope stands: not in functions that have it for something else."""
    found, waiting = [], list(children(scope))
    while waiting:
        node = waiting.pop()
        if _is(node, name):
            found.append(node)
        elif not isinstance(node, (cst.FunctionDef, cst.Lambda)) or name not in _own(node):
            waiting += children(node)
    return found


def _own(node: Any) -> set[str]:
    """The names that a function binds."""
    own = {p.name.value for p in walk(node.params) if isinstance(p, cst.Param)}
    return own | (set(_bound(node)) if isinstance(node, cst.FunctionDef) else set())


def _changed_or_hidden(scope: Any, statement: Any, name: str, free: set[str]) -> bool:
    """Whether what a name holds is changed by hand, or a function or comprehension that reads it
    has one of the names that it is made of."""
    for node in walk(scope):
        if isinstance(node, (cst.FunctionDef, cst.Lambda)) and node is not scope:
            own = _own(node)
            if name not in own and own & free and _reads(node, name):
                return True
        elif isinstance(node, cst.CompFor) and set(names_in(node.target)) & {name, *free}:
            return True
        elif isinstance(node, cst.SimpleStatementLine) and node is not statement:
            stored = stores(node)
            if name in stored:
                return True
    return False


def _is(node: Any, name: str) -> bool:
    return isinstance(node, cst.Name) and node.value == name


class _WrittenOut(cst.CSTTransformer):
    """Puts what names hold in their places, and leaves out the statements that bind them."""

    def __init__(self, written: dict[Any, tuple[str, Any]]) -> None:
        super().__init__()
        self._written = written

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        if original_node not in self._written:
            return updated_node
        return self._written[original_node][1].deep_clone()

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> cst.For:
        """`for p in list(model.parameters())` goes through them without a list."""
        over = updated_node.iter
        if original_node.iter in self._written and isinstance(over, cst.Call):
            inner: Any = over.args[0].value if len(over.args) == 1 else None
            func = inner.func if isinstance(inner, cst.Call) else None
            method = func.attr.value if isinstance(func, cst.Attribute) else ""
            if dotted(over.func) == "list" and method in GIVING:
                return updated_node.with_changes(iter=inner)
        return updated_node

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        first = original_node.body[0]
        if isinstance(first, cst.Assign) and first.targets[0].target in self._written:
            above = any(line.comment is not None for line in original_node.leading_lines)
            return original_node if above else cst.RemoveFromParent()
        return updated_node
