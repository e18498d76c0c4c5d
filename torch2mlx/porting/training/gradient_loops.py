"""Loops that change gradients before a step: `for p in net.parameters(): p.grad.clamp_(-1, 1)`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.training.manual_sgd import parameter_of

#: Methods in place that may stand in such a loop, and whether they leave a zero as it is.
_METHODS = {
    "clamp_": True,
    "clip_": True,
    "mul_": True,
    "div_": True,
    "nan_to_num_": True,
    "neg_": True,
    "add_": False,
    "sub_": False,
}
_LEAVES_ZERO = (cst.MultiplyAssign, cst.DivideAssign)
_BINARY: dict[type, type] = {
    cst.MultiplyAssign: cst.Multiply,
    cst.DivideAssign: cst.Divide,
    cst.AddAssign: cst.Add,
    cst.SubtractAssign: cst.Subtract,
}


def changed_module(statement: Any) -> str:
    """The module whose gradients a loop over its parameters changes, and does nothing else; empty
    for other statements."""
    if not isinstance(statement, cst.For) or not isinstance(statement.iter, cst.Call):
        return ""
    func, name = statement.iter.func, parameter_of(statement)
    if not name or not isinstance(func, cst.Attribute) or statement.orelse is not None:
        return ""
    changes = list(_changes(statement.body.body, name, False))
    plain = bool(changes) and None not in changes
    return dotted(func.value) if plain else ""


def _changes(body: Any, name: str, guarded: bool) -> Iterator[Any]:
    """What each statement of a loop gives the gradient; None of one that does something else, or
    that would change the zero that MLX has for what torch has no gradient of."""
    for part in body:
        small = isinstance(part, cst.BaseSmallStatement)  # of `if p.grad is not None: ...`
        statement: Any = cst.SimpleStatementLine([part]) if small else part
        asked = _asked(statement, name)
        if asked == "is not" and statement.orelse is None:
            yield from _changes(statement.body.body, name, True)
        elif asked == "is" and _only_continues(statement):
            guarded = True
        elif isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
            yield _change(statement.body[0], f"{name}.grad", guarded)
        else:
            yield None


def _asked(statement: Any, name: str) -> str:
    """ "is" or "is not" where a statement asks that of a gradient and None."""
    test = statement.test if isinstance(statement, cst.If) else None
    if not isinstance(test, cst.Comparison) or dotted(test.left) != f"{name}.grad":
        return ""
    other = test.comparisons[0]
    none = isinstance(other.comparator, cst.Name) and other.comparator.value == "None"
    words: dict[type, str] = {cst.Is: "is", cst.IsNot: "is not"}
    return words.get(type(other.operator), "") if none else ""


def _only_continues(statement: Any) -> bool:
    body = statement.body.body
    small = body[0].body if len(body) == 1 and isinstance(body[0], cst.SimpleStatementLine) else ()
    alone = len(small) == 1 and isinstance(small[0], cst.Continue)
    return alone and statement.orelse is None


def _is(node: Any, gradient: str) -> bool:
    return dotted(node) in (gradient, f"{gradient}.data")


def _change(small: Any, gradient: str, guarded: bool) -> Any:
    """What a small statement gives a gradient, as an expression; None where it does not."""
    if isinstance(small, cst.Assign) and len(small.targets) == 1:
        whole = _is(small.targets[0].target, gradient) and not guarded
        read = any(_is(n, gradient) for n in walk(small.value))
        return small.value if whole and read else None
    if isinstance(small, cst.AugAssign) and _is(small.target, gradient):
        operator = _BINARY.get(type(small.operator))
        if operator is None or (guarded and not isinstance(small.operator, _LEAVES_ZERO)):
            return None
        right = small.value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        return cst.BinaryOperation(small.target, operator(), right)
    call = small.value if isinstance(small, cst.Expr) else None
    if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
        return None
    method = call.func.attr.value
    keeps = _METHODS.get(method)
    if keeps is None or not _is(call.func.value, gradient) or (guarded and not keeps):
        return None
    return call.with_changes(func=call.func.with_changes(attr=cst.Name(method[:-1])))


def rewritten_changes(loop: Any, gradients: str, head: str) -> Any:
    """The loop, by which a tree of gradients gets new ones; `head` is where in it the module's
    are."""
    name = parameter_of(loop)
    key = f"{name}_name"
    if isinstance(loop.target, cst.Tuple):
        key = dotted(loop.target.elements[0].value)
    over = cst.Module([]).code_for_node(loop.iter.func.value)
    at = f', "{head}"' if head else ""
    given = f"{key}, {over}{at}"
    read = f"{KIT}.training.gradient({gradients}, {given})"
    lines = []
    for change in _changes(loop.body.body, name, False):
        value = cst.Module([]).code_for_node(change.visit(_Read(f"{name}.grad", read)))
        put = f"{KIT}.training.put_gradient({gradients}, {key}, {value}, {over}{at})"
        lines.append(f"    {gradients} = {put}\n")
    if any(_asked(s, name) for s in walk(loop.body) if isinstance(s, cst.If)):
        guard = f"    if {KIT}.training.has_gradient({gradients}, {given}):\n"
        lines = [guard, *(f"    {line}" for line in lines)]
    made: Any = cst.parse_statement(
        f"for {key}, {name} in {over}.named_parameters():\n" + "".join(lines)
    )
    return made.with_changes(leading_lines=loop.leading_lines)


class _Read(cst.CSTTransformer):
    """`p.grad` and `p.grad.data` as what gives them."""

    def __init__(self, gradient: str, text: str) -> None:
        super().__init__()
        self._gradient, self._text = gradient, text

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        name = dotted(original_node)
        if name == f"{self._gradient}.data":
            return updated_node.value
        return cst.parse_expression(self._text) if name == self._gradient else updated_node
