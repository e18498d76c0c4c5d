"""Gradients that a call of a function leaves to the next call, as torch keeps them in `.grad`.

def train(loader):                              def train(loader):
    for i, x in enumerate(loader):                  grads = kit.training.left(net)
        net(x).mean().backward()          ->        for i, x in enumerate(loader):
        if i % 4 == 3:                                  ...
            optimizer.step()                            grads = None
            optimizer.zero_grad()                   kit.training.leave(grads, net)

A function whose gradients are set to zero before its first backward on every way, or after its last
one, leaves nothing that a call would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import EXITS, walk
from torch2mlx.porting.training.step_scope import Scope, Step


def note_left(scope: Scope, events: Sequence[Any], own: set[str]) -> None:
    """Notes in a scope which gradients its calls leave to each other. `events` are backward passes
    and zero_grads in order; `own` are names that the function itself gives values."""
    order = list(walk(scope.node.body))
    for statement, step in scope.steps.items():
        roots = {module.partition(".")[0] for module in step.modules}
        if roots & own:
            scope.own.add(step.gradients)
        elif step.adds and _seen(statement, step, events, order):
            scope.left[step.gradients] = list(step.modules)


def _seen(statement: Any, step: Step, events: Sequence[Any], order: list[Any]) -> bool:
    """Whether a call may add to what a call before it left."""
    at = next(i for i, e in enumerate(events) if e.statement is statement)
    whole, place = set(step.modules), order.index(statement)
    zeroes = [(i, e) for i, e in enumerate(events) if e.kind == "zero" and _around(e, events[at])]
    if whole <= {m for i, zero in zeroes if i < at for m in zero.modules}:
        return False
    behind: set[str] = set()
    for zero in (zero for i, zero in zeroes if i > at):
        between = order[place + 1 : order.index(zero.statement)]
        if not any(isinstance(part, EXITS) for part in between):
            behind |= zero.modules
    return not whole <= behind


def _around(zero: Any, own: Any) -> bool:
    """Whether a statement runs whenever another one does: it is in its block or in one around."""
    return bool(own.block[: len(zero.block)] == zero.block)


def left(modules: Sequence[str]) -> str:
    """What gradients are at the beginning of a call."""
    return f"{KIT}.training.left({', '.join(modules)})"


def leave(gradients: str, modules: Sequence[str]) -> Any:
    """The statement that leaves gradients to the next call; "None" sets them to zero."""
    return cst.parse_statement(f"{KIT}.training.leave({gradients}, {', '.join(modules)})\n")


def with_exits(body: list[Any], scope: Scope) -> list[Any]:
    """The statements of a function, which leaves its gradients wherever it ends."""
    if not scope.left:
        return body
    leaving = [leave(name, modules) for name, modules in sorted(scope.left.items())]
    rules = _Exits(leaving)
    made = [statement.visit(rules) for statement in body]
    flat = [
        part for one in made for part in (one if isinstance(one, cst.FlattenSentinel) else [one])
    ]
    last = flat[-1].body[-1] if isinstance(flat[-1], cst.SimpleStatementLine) else None
    return flat if isinstance(last, (cst.Return, cst.Raise)) else [*flat, *leaving]


class _Exits(cst.CSTTransformer):
    """Puts statements before each return, not those of functions within."""

    def __init__(self, leaving: list[Any]) -> None:
        super().__init__()
        self._leaving = leaving

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return False

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        return False

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        if not any(isinstance(small, cst.Return) for small in updated_node.body):
            return updated_node
        first, *rest = self._leaving
        first = first.with_changes(leading_lines=updated_node.leading_lines)
        return cst.FlattenSentinel([first, *rest, updated_node.with_changes(leading_lines=())])

    def leave_SimpleStatementSuite(self, original_node: Any, updated_node: Any) -> Any:
        """`if done: return x`, whose block gets lines of its own."""
        if not any(isinstance(small, cst.Return) for small in updated_node.body):
            return updated_node
        return cst.IndentedBlock([*self._leaving, cst.SimpleStatementLine(updated_node.body)])


class WithoutMarks(cst.CSTTransformer):
    """Takes out statements; comments above them go to the next one."""

    def __init__(self, marks: Sequence[Any]) -> None:
        super().__init__()
        # their lines, which stay the same ones when comments are put above them
        self._marks = {id(mark.body[0]) for mark in marks}

    def _kept(self, original_node: Any, updated_node: Any) -> Any:
        made: list[Any] = []
        above: list[Any] = []
        for old, new in zip(original_node.body, updated_node.body, strict=True):
            if isinstance(old, cst.SimpleStatementLine) and id(old.body[0]) in self._marks:
                above += [line for line in old.leading_lines if line.comment is not None]
                continue
            if above and hasattr(new, "leading_lines"):
                new = new.with_changes(leading_lines=[*above, *new.leading_lines])
                above = []
            made.append(new)
        if not made and isinstance(updated_node, cst.IndentedBlock):
            made = [cst.SimpleStatementLine([cst.Pass()])]
        return updated_node.with_changes(body=made)

    leave_IndentedBlock = leave_Module = _kept
