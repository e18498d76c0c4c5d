"""Forward passes whose backward stands behind a condition: the condition is asked before them.

outputs = model(inputs)                     if phase == "train":
loss = criterion(outputs, labels)               outputs = model(inputs)
if phase == "train":                 ->         loss = criterion(outputs, labels)
    loss.backward()                             loss.backward()
    optimizer.step()                            optimizer.step()
                                            else:
                                                outputs = model(inputs)
                                                loss = criterion(outputs, labels)

MLX differentiates the forward pass, so both have to stand in one block. The condition must be one
that the forward pass cannot change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import Scanner, called_method
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import calls, walk

#: Methods that move data and compute nothing: a forward pass does not begin with them.
_MOVING = ("to", "cuda", "cpu", "float", "long", "view", "reshape", "unsqueeze", "squeeze", "size")
#: What may answer otherwise when it is asked again.
_LIVELY = (cst.Call, cst.Subscript, cst.Lambda, cst.NamedExpr, cst.Await, cst.Yield, cst.BaseComp)


class EarlyBranches(cst.CSTTransformer):
    """Moves forward passes into the branches behind them, where a branch has the backward pass."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report
        self._scan = Scanner()
        self._shared: set[str] = set()  # names that functions set for others

    def visit_Module(self, node: cst.Module) -> None:
        told = (part for part in walk(node) if isinstance(part, (cst.Global, cst.Nonlocal)))
        self._shared = {item.name.value for part in told for item in part.names}

    def leave_IndentedBlock(self, original_node: Any, updated_node: Any) -> Any:
        return self._block(original_node, updated_node)

    def leave_Module(self, original_node: Any, updated_node: Any) -> Any:
        return self._block(original_node, updated_node)

    def _block(self, original: Any, updated: Any) -> Any:
        made = self._moved(updated.body, original.body)
        return updated if made is None else updated.with_changes(body=made)

    def _moved(self, body: Sequence[Any], before: Sequence[Any]) -> list[Any] | None:
        for place, statement in enumerate(body):
            start = self._start(statement, place, body)
            if start is None:
                continue
            self._report.change(
                before[place] if len(before) == len(body) else statement,
                "backward",
                "MLX differentiates the forward pass, so that the condition is asked before it",
            )
            asked = _asked_before(statement, body[start:place])
            rest = self._moved(body[place + 1 :], ()) or body[place + 1 :]
            return [*body[:start], asked, *rest]
        return None

    def _start(self, statement: Any, place: int, body: Sequence[Any]) -> int | None:
        """Where the forward pass begins that a branch takes the gradient of; None where the
        statement is no such branch, or may not be asked earlier."""
        if not isinstance(statement, cst.If):
            return None
        loss = _loss(statement.body.body)
        if not loss or any(loss in self._scan.stores(s) for s in _until_backward(statement)):
            return None
        start = self._forward(loss, body[:place])
        if start is None:
            return None
        between = body[start:place]
        free = all(map(_may_move, between)) and self._stays(statement.test, between)
        return start if free else None

    def _forward(self, loss: str, before: Sequence[Any]) -> int | None:
        """The first of the statements that lead to a loss and compute something."""
        needed, first = {loss}, None
        for place in range(len(before) - 1, -1, -1):
            written = set(self._scan.stores(before[place]))
            if not written & needed:
                continue
            needed |= {name for name in self._scan.loads(before[place]) if "." not in name}
            if _computes(before[place]):
                first = place
        while first and called_method(before[first - 1], "zero_grad") is not None:
            first -= 1
        return first

    def _stays(self, test: Any, between: Sequence[Any]) -> bool:
        """Whether some statements cannot change what a condition says."""
        if any(isinstance(part, _LIVELY) for part in walk(test)):
            return False
        written = {name for s in between for name in self._scan.stores(s)}
        read = {name for s in between for name in self._scan.loads(s)}
        for name in self._scan.loads(test):
            owner, _, rest = name.partition(".")
            if name in written or owner in written | self._shared:
                return False
            if rest and rest.rpartition(".")[2] != "training" and owner in read:
                return False  # what is called may change its attributes
        return True


def _asked_before(branch: cst.If, forward: Sequence[Any]) -> cst.If:
    """The branch with a forward pass at the head of each of its ways."""
    again = [statement.deep_clone() for statement in forward]
    other = branch.orelse
    if isinstance(other, cst.If):
        again.append(other)
    elif other is not None:
        again += other.body.body
    first, *rest = forward
    body = branch.body.with_changes(
        body=[first.with_changes(leading_lines=()), *rest, *branch.body.body]
    )
    again[0] = again[0].with_changes(leading_lines=())
    return branch.with_changes(
        body=body,
        orelse=cst.Else(body=cst.IndentedBlock(body=again)),
        leading_lines=[*first.leading_lines, *branch.leading_lines],
    )


def _until_backward(branch: cst.If) -> list[Any]:
    found: list[Any] = []
    for statement in branch.body.body:
        if called_method(statement, "backward") is not None:
            break
        found.append(statement)
    return found


def _loss(body: Sequence[Any]) -> str:
    """The name that a statement of a block calls `backward` on."""
    for statement in body:
        call = called_method(statement, "backward")
        if call is not None and isinstance(call.func, cst.Attribute):
            return dotted(call.func.value)
    return ""


def _computes(statement: Any) -> bool:
    """Whether a statement calls something that does not only move data."""
    for call in calls(statement):
        func = call.func
        if not isinstance(func, cst.Attribute) or func.attr.value not in _MOVING:
            return True
    return False


def _may_move(statement: Any) -> bool:
    """Whether a statement may stand in a branch: it takes no gradient or mode of its own."""
    methods = ("backward", "step", "train", "eval")
    named = (c.func.attr.value for c in calls(statement) if isinstance(c.func, cst.Attribute))
    return not isinstance(statement, (cst.FunctionDef, cst.ClassDef)) and not any(
        name in methods for name in named
    )
