"""Gradients that a script sets to zero itself: `zero_grad` of the module that has the parameters.

for p in net.parameters():                  net.zero_grad()
    if p.grad is not None:           ->
        p.grad.data.zero_()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, of_kinds, walk
from torch2mlx.porting.training.manual_sgd import parameter_of
from torch2mlx.porting.training.optimizers import apart

_WHY = "sets the gradients of all parameters to zero"
_ZEROS = ("torch.zeros_like", "torch.zeros")


class ZeroedByHand(cst.CSTTransformer):
    """`single`: names of modules of one parameter, whose `name.grad` is that of the parameter."""

    def __init__(self, names: Names, report: Report, single: set[str]) -> None:
        super().__init__()
        self._names, self._report, self._single = names, report, single

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> Any:
        """A loop that zeroes at its end, or does nothing else."""
        call: Any = original_node.iter
        name = parameter_of(original_node) if isinstance(call, cst.Call) else ""
        body = getattr(original_node.body, "body", ())
        if not name or original_node.orelse is not None or not isinstance(call.func, cst.Attribute):
            return updated_node
        aliases = {name: f"{name}.grad"}
        zeroing = [self._zeroes(s, f"{name}.grad", aliases) for s in body]
        start = next((i for i in range(len(body)) if all(zeroing[i:])), len(body))
        kept = body[:start]
        if start == len(body) or not any(z == "zero" for z in zeroing[start:]) or _leaves(kept):
            return updated_node
        self._report.change(original_node, "p.grad", _WHY)
        none = all(self._leaves_none(s) for s in body[start:])
        made = _zero_grad(dotted(call.func.value), none)
        if not dotted(call.func.value):
            return updated_node
        if not kept:
            return made.with_changes(leading_lines=updated_node.leading_lines)
        rest = updated_node.body.with_changes(body=updated_node.body.body[:start])
        return cst.FlattenSentinel([updated_node.with_changes(body=rest), made])

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        owner = self._zeroed(original_node)
        if not owner:
            return updated_node
        self._report.change(original_node, "p.grad", _WHY)
        made = _zero_grad(owner, self._leaves_none(original_node))
        return made.with_changes(leading_lines=updated_node.leading_lines)

    def leave_IndentedBlock(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(body=self._apart(updated_node.body))

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> Any:
        return updated_node.with_changes(body=self._apart(updated_node.body))

    def _apart(self, body: Sequence[Any]) -> list[Any]:
        """A block with a line for each of `W.grad, b.grad = None, None`."""
        made: list[Any] = []
        for statement in body:
            owners = self._all_zeroed(statement)
            lines = [_zero_grad(owner, self._leaves_none(statement)) for owner in owners]
            if lines:
                lines[0] = lines[0].with_changes(leading_lines=statement.leading_lines)
            made += lines or [statement]
        return made

    def _all_zeroed(self, statement: Any) -> list[str]:
        small = _small(statement) if isinstance(statement, cst.SimpleStatementLine) else None
        if not isinstance(small, cst.Assign):
            return []
        given = [pair for t in small.targets for pair in apart(t.target, small.value)]
        owners = [dotted(t).removesuffix(".grad") for t, _ in given if _is_grad(t)]
        whole = len(owners) == len(given) and all(o in self._single for o in owners)
        return owners if whole and all(self._is_zero(v) for _, v in given) else []

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> Any:
        """`if w.grad is not None: w.grad.zero_()`."""
        gradient = _asked(original_node.test, True)
        body: Any = getattr(original_node.body, "body", ())
        owner = gradient.removesuffix(".grad")
        if original_node.orelse is not None or owner not in self._single or not body:
            return updated_node
        if not all(self._zeroes(s, gradient, {}) == "zero" for s in body):
            return updated_node
        made = _zero_grad(owner, all(self._leaves_none(s) for s in body))
        return made.with_changes(leading_lines=updated_node.leading_lines)

    def _leaves_none(self, statement: Any) -> bool:
        """Whether no gradient is left behind a statement that sets one to zero, not a zero."""
        made = [n.value for n in walk(statement) if isinstance(n, cst.Assign)]
        zeros = [n for n in walk(statement) if isinstance(n, cst.Call) and self._is_zero(n)]
        return not zeros and any(dotted(p) == "None" for m in made for p in walk(m))

    def _zeroed(self, statement: Any) -> str:
        """The module of one parameter whose gradient a statement sets to zero."""
        found = {dotted(n.value) for n in walk(statement) if _is_grad(n)} & self._single
        owner = next(iter(found)) if len(found) == 1 else ""
        zero = owner and self._zeroes(statement, f"{owner}.grad", {}) == "zero"
        return owner if zero else ""

    def _zeroes(self, statement: Any, gradient: str, aliases: dict[str, str]) -> str:
        """ "zero" of a statement that sets a gradient to zero; "more" of one that only leads there;
        "" of others. `aliases`: names that have the gradient too."""
        if isinstance(statement, cst.If):
            inner: Any = getattr(statement.body, "body", ())
            if _asked(statement.test, False) == gradient and _only_continues(inner):
                return "more"
            asked = _asked(statement.test, True) == gradient and statement.orelse is None
            found = [self._zeroes(s, gradient, aliases) for s in inner]
            return "zero" if asked and found and all(found) and "zero" in found else ""
        small = _small(statement)
        if isinstance(small, cst.Assign) and len(small.targets) == 1:
            return self._assigned(small, gradient, aliases)
        call = small.value if isinstance(small, cst.Expr) else None
        if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
            return ""
        words = {"zero_": "zero", "detach_": "more", "requires_grad_": "more"}
        of_gradient = _plain(call.func.value) == gradient
        return words.get(call.func.attr.value, "") if of_gradient else ""

    def _assigned(self, small: cst.Assign, gradient: str, aliases: dict[str, str]) -> str:
        target = small.targets[0].target
        if isinstance(target, cst.Name) and _plain(small.value) == gradient:
            aliases[target.value] = gradient
            return "more"
        name = dotted(target)
        if name not in (gradient, f"{gradient}.data"):
            return ""
        return "zero" if self._is_zero(small.value) else ""

    def _is_zero(self, node: Any) -> bool:
        if isinstance(node, cst.Name):
            return node.value == "None"
        if not isinstance(node, cst.Call):
            return False
        full = self._names.of(node.func)
        if full == "torch.autograd.Variable" and node.args:
            return self._is_zero(node.args[0].value)
        method = node.func.attr.value if isinstance(node.func, cst.Attribute) else ""
        return full in _ZEROS or (not full and method == "zero_")


def keeps_zeros(module: cst.Module) -> bool:
    """Whether gradients that are set to zero are zeros behind that, and not None: an optimizer
    steps what the next loss does not come from too."""
    made = (c for c in calls(module) if dotted(c.func).endswith(".zero_grad"))
    given = (a for c in made for a in c.args[:1])
    return any(dotted(a.value) == "False" for a in given)


def single_parameters(module: cst.Module, kind: str) -> set[str]:
    """Names that are given modules of a class of one parameter."""
    made = (n for n in of_kinds(module, cst.Assign) if isinstance(n.value, cst.Call))
    return {dotted(n.targets[0].target) for n in made if dotted(n.value.func) == kind}


def _is_grad(node: Any) -> bool:
    return isinstance(node, cst.Attribute) and node.attr.value == "grad"


def _zero_grad(owner: str, none: bool) -> Any:
    given = "" if none else "set_to_none=False"
    return cst.parse_statement(f"{owner}.zero_grad({given})\n")


def _small(statement: Any) -> Any:
    """The one small statement of a line, or of `if test: statement`."""
    if isinstance(statement, cst.BaseSmallStatement):
        return statement
    alone = isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1
    return statement.body[0] if alone else None


def _plain(node: Any) -> str:
    """A dotted name without its `.data`."""
    return dotted(node).removesuffix(".data")


def _asked(test: Any, there: bool) -> str:
    """The gradient of `p.grad is not None`, of `p.grad` alone, or of `p.grad is None`."""
    if there and _is_grad(test):
        return dotted(test)
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return ""
    compared = test.comparisons[0]
    wanted = (cst.IsNot, cst.NotEqual) if there else (cst.Is, cst.Equal)
    none = dotted(compared.comparator) == "None" and isinstance(compared.operator, wanted)
    return dotted(test.left) if none else ""


def _only_continues(body: Any) -> bool:
    return len(body) == 1 and isinstance(_small(body[0]), cst.Continue)


def _leaves(statements: Sequence[Any]) -> bool:
    """Whether some statements of a loop may go on to its next round, or end it."""
    kinds = (cst.Continue, cst.Break, cst.Return)
    return any(isinstance(p, kinds) for s in statements for p in walk(s))
