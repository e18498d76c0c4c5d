"""`optimizer.step(closure)`: the closure's statements stand where it is called.

def closure():                              output = model(data)
    optimizer.zero_grad()                   loss = criterion(output, target)
    output = model(data)            ->      loss.backward()
    loss = criterion(output, target)        optimizer.step()
    loss.backward()
    return loss
optimizer.step(closure)

An optimizer of torch calls its closure once for each step, but LBFGS: its closure stays a function,
which gives the gradient to the optimizer that calls it.

def closure():                              def closure():
    optimizer.zero_grad()                       optimizer.zero_grad()
    loss = criterion(model(x), y)     ->        loss = criterion(model(x), y)
    loss.backward()                             loss.backward()
    return loss                                 optimizer.step()
                                                return loss
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import called_method
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import calls, everything, of_kinds


class WithoutClosures(cst.CSTTransformer):
    """Takes closures apart where each of their names is theirs alone."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report
        self._around: list[Any] = []  # functions being walked, and the file
        self._taken: list[set[str]] = []  # closures that were taken apart in each
        self._kept: dict[str, str] = {}  # closures of an LBFGS, and its name
        self._closures: set[str] = set()
        self._evaluates: Callable[[str], bool] = lambda name: False

    def visit_Module(self, node: cst.Module) -> None:
        self._evaluates, self._closures = evaluating(node), closures(node)
        self._kept = dict(_closures_of(node, self._evaluates))
        self._enter(node)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._enter(node)

    def _enter(self, node: Any) -> None:
        self._around.append(node)
        self._taken.append(set())

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._around.pop()
        updated_node = self._without(updated_node, self._taken.pop())
        optimizer = self._kept.get(original_node.name.value, "")
        if not optimizer or original_node.name.value not in self._closures:
            return updated_node
        *body, last = updated_node.body.body
        step = cst.parse_statement(f"{optimizer}.step()\n")
        inner = updated_node.body.with_changes(body=[*body, step, last])
        return updated_node.with_changes(body=inner)

    def leave_Module(self, original_node: Any, updated_node: cst.Module) -> cst.Module:
        made = updated_node.with_changes(body=self._body(list(updated_node.body)))
        self._around.pop()
        return self._without(made, self._taken.pop())

    def leave_IndentedBlock(self, original_node: Any, updated_node: cst.IndentedBlock) -> Any:
        return updated_node.with_changes(body=self._body(list(updated_node.body)))

    def _body(self, block: list[Any]) -> list[Any]:
        made: list[Any] = []
        for statement in block:
            name, target, optimizer = _stepped(statement)
            taken = name and not self._evaluates(optimizer)
            closure = self._closure(name) if taken else None
            if closure is None or not self._alone(closure, target):
                made.append(statement)
                continue
            self._taken[-1].add(name)
            self._report.change(closure, "closure", "its statements stand where it was called")
            made += _inlined(closure, statement, target)
        return made

    def _closure(self, name: str) -> Any:
        """The closure of that name in the function around, if it is the only one."""
        found = [n for n in everything(self._around[-1]) if isinstance(n, cst.FunctionDef)]
        found = [n for n in found if n.name.value == name]
        return found[0] if len(found) == 1 and _closes(found[0]) else None

    def _alone(self, closure: cst.FunctionDef, target: str) -> bool:
        """Whether nothing else in the function has a name that the closure gives something."""
        own = _assigned(closure) - {target}
        inside = {n for n in everything(closure)}
        names = (n for n in everything(self._around[-1]) if isinstance(n, cst.Name))
        return not own & {n.value for n in names if n not in inside}

    def _without(self, node: Any, taken: set[str]) -> Any:
        """The function or file without the closures that nothing calls any more."""
        if not taken:
            return node
        used = [n.value for n in everything(node) if isinstance(n, cst.Name)]
        gone = {name for name in taken if used.count(name) == 1}  # in the definition itself
        return node.visit(_Removed(gone)) if gone else node


class _Removed(cst.CSTTransformer):
    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self._names = names

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        return cst.RemoveFromParent() if original_node.name.value in self._names else updated_node


def _assigned(node: Any) -> set[str]:
    """Plain names that something is assigned to."""
    places: list[Any] = []
    for part in everything(node):
        if isinstance(part, cst.Assign):
            places += [t.target for t in part.targets]
        elif isinstance(part, (cst.AnnAssign, cst.For, cst.CompFor, cst.NamedExpr)):
            places.append(part.target)
        elif isinstance(part, cst.AsName):
            places.append(part.name)
    return {n.value for place in places for n in _names(place)}


def _names(place: Any) -> list[cst.Name]:
    if isinstance(place, (cst.Tuple, cst.List)):
        return [n for element in place.elements for n in _names(element.value)]
    return [place] if isinstance(place, cst.Name) else []


def _closes(node: cst.FunctionDef) -> bool:
    """Whether a function has no arguments, takes a gradient and answers the loss at its end."""
    body = list(node.body.body)
    last = body[-1].body[0] if body and isinstance(body[-1], cst.SimpleStatementLine) else None
    plain = not (node.params.params or node.params.kwonly_params or node.decorators)
    returns = sum(isinstance(n, cst.Return) for n in everything(node))
    plain = plain and not any(isinstance(n, (cst.Nonlocal, cst.Global)) for n in everything(node))
    ends = isinstance(last, cst.Return) and last.value is not None and returns == 1
    return plain and ends and any(called_method(s, "backward") is not None for s in body)


def evaluating(module: cst.Module) -> Callable[[str], bool]:
    """Whether an optimizer of a name calls its closure several times: it is an LBFGS, or may be one
    in a file that makes one."""
    made: dict[str, set[str]] = {}
    for node in of_kinds(module, cst.Assign):
        value = node.value
        for target in node.targets if isinstance(value, cst.Call) else ():
            kind = dotted(value.func).rpartition(".")[2]
            made.setdefault(dotted(target.target), set()).add(kind)
    some = any(dotted(c.func).rpartition(".")[2] == "LBFGS" for c in of_kinds(module, cst.Call))
    return lambda name: some and "LBFGS" in made.get(name, {"LBFGS"})


def _closures_of(module: cst.Module, evaluates: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """The functions that are given to the `step` of an LBFGS, and its name."""
    for call in of_kinds(module, cst.Call):
        func, given = call.func, [a.value for a in call.args]
        steps = isinstance(func, cst.Attribute) and func.attr.value == "step"
        owner = dotted(func.value) if isinstance(func, cst.Attribute) else ""
        if steps and evaluates(owner) and len(given) == 1 and isinstance(given[0], cst.Name):
            yield given[0].value, owner


def closures(module: cst.Module) -> set[str]:
    """Functions that compute a loss and its gradient each time they are called."""
    found = of_kinds(module, cst.FunctionDef)
    return {node.name.value for node in found if _closes(node) and _zeroes(node)}


def _zeroes(node: cst.FunctionDef) -> bool:
    """Whether a closure sets the gradients to zero itself: they add up over its calls, if not."""
    return any(called_method(s, "zero_grad") is not None for s in node.body.body)


def _stepped(statement: Any) -> tuple[str, str, str]:
    """(closure, name that takes the loss, optimizer) of `loss = optimizer.step(closure)`."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return "", "", ""
    part: Any = statement.body[0]
    target = ""
    if isinstance(part, cst.Assign) and len(part.targets) == 1:
        name = part.targets[0].target
        target = name.value if isinstance(name, cst.Name) else "?"
    call = getattr(part, "value", None)
    if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
        return "", "", ""
    given = call.args[0].value if len(call.args) == 1 else None
    step = call.func.attr.value == "step" and isinstance(given, cst.Name) and target != "?"
    owner = dotted(call.func.value)
    return (given.value, target, owner) if step else ("", "", "")  # type: ignore[union-attr]


def _inlined(closure: cst.FunctionDef, statement: Any, target: str) -> list[Any]:
    *body, last = closure.body.body[1 if closure.get_docstring() is not None else 0 :]
    answer = last.body[0].value  # type: ignore[union-attr]
    call = next(iter(calls(statement)))
    step = cst.Expr(call.with_changes(args=[]))
    made = [*body, cst.SimpleStatementLine([step])]
    if target and not (isinstance(answer, cst.Name) and answer.value == target):
        made.append(
            cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(cst.Name(target))], answer)])
        )
    first = made[0]
    if hasattr(first, "leading_lines"):
        above = [line for line in closure.leading_lines if line.comment is not None]
        lines = [*statement.leading_lines, *above, *first.leading_lines]
        made[0] = first.with_changes(leading_lines=lines)
    return made
