"""Steps without an optimizer: `for p in model.parameters(): p.data -= lr * p.grad`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import dotted


def updated_modules(statements: Iterable[Any], scan: Scanner) -> list[str]:
    """Modules whose parameters some loops step by hand."""
    return list(dict.fromkeys(_loops(statements, scan)))


def _loops(statements: Iterable[Any], scan: Scanner) -> Iterator[str]:
    for statement in statements:
        module = updated_module(statement, scan)
        if module:
            yield module
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
