"""Steps without an optimizer: `for p in model.parameters(): p.data -= lr * p.grad`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner, called_method
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import walk


def updated_modules(statements: Iterable[Any], scan: Scanner) -> list[str]:
    """Modules whose parameters some loops step by hand, and those of one parameter whose gradient
    is read."""
    return list(dict.fromkeys(_loops(statements, scan)))


def next_updated(statements: Sequence[Any], scan: Scanner) -> list[str]:
    """Those that are stepped before the next backward."""
    found: list[str] = []
    for statement in statements:
        if called_method(statement, "backward") is not None and found:
            break
        found += updated_modules([statement], scan)
    return list(dict.fromkeys(found))


def by_hand(statements: Sequence[Any], scan: Scanner) -> tuple[set[str], set[str]]:
    """Modules that statements step, and modules whose gradients they set to zero while they do."""
    held = [(s, set(updated_modules([s], scan))) for s in statements]
    zeroed = (modules for s, modules in held if zeroes(s, scan))
    return set().union(*(modules for _, modules in held)), set().union(*zeroed)


def plain_lines(statements: Sequence[Any]) -> Iterator[Any]:
    """The lines of a block that always run, those under `with` too."""
    for statement in statements:
        if isinstance(statement, cst.SimpleStatementLine):
            yield statement
        elif isinstance(statement, cst.With):
            yield from plain_lines(statement.body.body)


class _Always(cst.CSTTransformer):
    """Takes out what a line evaluates on some ways alone."""

    def leave_IfExp(self, original_node: cst.IfExp, updated_node: cst.IfExp) -> Any:
        return updated_node.test

    def leave_BooleanOperation(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.left


def always(statement: Any) -> Any:
    """A line without what it evaluates on some ways alone."""
    chooses = any(isinstance(n, (cst.IfExp, cst.BooleanOperation)) for n in walk(statement))
    return statement.visit(_Always()) if chooses else statement


def read_singles(statement: Any, scan: Scanner) -> list[str]:
    """The modules of one parameter whose gradients a line reads."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return []
    loads = scan.loads(statement)
    return [name for name in sorted(scan.single) if f"{name}.grad" in loads]


def _loops(statements: Iterable[Any], scan: Scanner) -> Iterator[str]:
    for statement in statements:
        module = updated_module(statement, scan)
        if module:
            yield module
        elif isinstance(statement, cst.SimpleStatementLine):
            yield from read_singles(statement, scan)
        elif isinstance(statement, cst.With):
            yield from _loops(statement.body.body, scan)


def updated_module(statement: Any, scan: Scanner) -> str:
    """The module of a loop over parameters that reads their gradients; empty for others."""
    if not isinstance(statement, cst.For) or not isinstance(statement.iter, cst.Call):
        return ""
    func, name = statement.iter.func, parameter_of(statement)
    if not name or not isinstance(func, cst.Attribute):
        return ""
    return dotted(func.value) if f"{name}.grad" in scan.loads(statement.body) else ""


def parameter_of(loop: cst.For) -> str:
    """The name that a loop gives each parameter; empty where it is over something else."""
    call: Any = loop.iter
    method = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
    if method == "parameters" and not call.args:
        return dotted(loop.target)
    pair = loop.target
    if method == "named_parameters" and isinstance(pair, cst.Tuple) and len(pair.elements) == 2:
        return dotted(pair.elements[1].value)
    return ""


def zeroes(statement: Any, scan: Scanner) -> bool:
    """Whether such a loop also sets the gradients to zero, or to None."""
    if isinstance(statement, cst.With):
        return any(zeroes(inner, scan) for inner in statement.body.body)
    if not updated_module(statement, scan):
        return False
    return any(_zeroing(inner, parameter_of(statement)) for inner in statement.body.body)


def _zeroing(statement: Any, name: str) -> bool:
    """`p.grad.zero_()` and `p.grad = None`."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    part = statement.body[0]
    if isinstance(part, cst.Assign):
        return dotted(part.targets[0].target) == f"{name}.grad"
    call = part.value if isinstance(part, cst.Expr) else None
    return isinstance(call, cst.Call) and dotted(call.func) == f"{name}.grad.zero_"


def rewritten(loop: cst.For, gradients: str, kit: str) -> cst.For:
    """The loop over names and parameters, with the gradients of a function's call."""
    name = parameter_of(loop)
    kept = [s for s in loop.body.body if not _zeroing(s, name)]
    key = f"{name}_name"
    if isinstance(loop.target, cst.Tuple):
        key = dotted(loop.target.elements[0].value)
    else:
        given: Any = loop.iter
        named = given.func.with_changes(attr=cst.Name("named_parameters"))
        line: Any = cst.parse_statement(f"{key}, {name} = 0\n")
        pair = line.body[0].targets[0].target
        loop = loop.with_changes(target=pair, iter=given.with_changes(func=named))
    func: Any = loop.iter
    text = f"{kit}.training.gradient({gradients}, {key}, {dotted(func.func.value)})"
    body = loop.body.with_changes(body=kept).visit(_Gradients(name, text))
    return loop.with_changes(body=body)


def with_gradients(statement: Any, given: dict[str, str]) -> Any:
    """A line in which the gradients of modules of one parameter are those `given`."""
    for name, gradients in given.items():
        statement = statement.visit(_Gradients(name, f'{gradients}["value"]'))
    return statement


class _Gradients(cst.CSTTransformer):
    """`p.grad` as what gives it."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self._wanted, self._text = f"{name}.grad", text

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        name = dotted(original_node)
        if name == f"{self._wanted}.data":
            return updated_node.value
        return cst.parse_expression(self._text) if name == self._wanted else updated_node
