"""Functions that only zero, take or apply gradients: their statements stand where they are called.

def reset():                            optimizer_d.zero_grad()
    optimizer_d.zero_grad()             optimizer_g.zero_grad()
    optimizer_g.zero_grad()      ->     loss_d.backward()
reset()                                 optimizer_d.step()
apply(loss_d, optimizer_d)

A loop over optimizers that are listed where it begins is written out in the same way. What a step
is made of can then be seen in one place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import stores
from torch2mlx.porting.scopes.filled import Filled
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import everything, walk
from torch2mlx.porting.training.written_out import uses_of_method

#: What such functions call, and nothing else.
_CALLED = ("zero_grad", "backward", "step", "clip_grad_norm_", "clip_grad_value_")
_PLAIN = (cst.Name, cst.Attribute, cst.Integer, cst.Float)


class WithoutSmallFunctions(cst.CSTTransformer):
    """Writes out calls of such functions, and loops."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report
        self._small: dict[str, cst.FunctionDef] = {}  # by the name that calls it, "self.f" too
        self._lists: dict[str, Any] = {}  # what names of the file list
        self._around: list[cst.FunctionDef] = []
        self._taken: Counter[str] = Counter()

    def visit_Module(self, node: cst.Module) -> None:
        named: Counter[str] = Counter()
        for part in everything(node):
            if isinstance(part, cst.FunctionDef):
                named[part.name.value] += 1
        self._small = {n: f for n, f in _functions(node) if named[f.name.value] == 1}
        self._lists = _lists(node)

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> Any:
        made = updated_node.with_changes(body=self._written(list(updated_node.body)))
        words = Counter(n.value for n in everything(original_node) if isinstance(n, cst.Name))
        attributes = (n for n in everything(original_node) if isinstance(n, cst.Attribute))
        words -= Counter(n.attr.value for n in attributes)
        gone = {
            f.name.value for n, f in self._small.items() if self._unused(n, original_node, words)
        }
        return made.visit(_Removed(gone)) if gone else made

    def _unused(self, name: str, module: cst.Module, words: Counter[str]) -> bool:
        """Whether every call of a function was written out; its own name is in its definition."""
        taken, function = self._taken[name], self._small[name]
        if name.startswith("self."):
            return 0 < taken == uses_of_method(module, function)
        return taken > 0 and words[function.name.value] == taken + 1

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._around.append(node)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._around.pop()
        return updated_node

    def leave_IndentedBlock(self, original_node: Any, updated_node: cst.IndentedBlock) -> Any:
        return updated_node.with_changes(body=self._written(list(updated_node.body)))

    def _written(self, block: list[Any]) -> list[Any]:
        made: list[Any] = []
        for statement in block:
            called = self._called(statement) or [statement]
            inner = [part for one in called for part in self._turns(one) or [one]]
            made += _above(statement, inner) if inner != [statement] else [statement]
        return made

    def _turns(self, statement: Any) -> list[Any]:
        """The turns of a loop over what is listed; none of other loops."""
        if not isinstance(statement, cst.For) or not _loops_over_gradients(statement):
            return []
        listed: Any = statement.iter
        if isinstance(listed, cst.Name):
            listed = self._lists.get(listed.value)
        if not _is_list(listed):
            return []
        target: Any = statement.target
        given = [{target.value: e.value} for e in listed.elements]
        body: Any = statement.body.body
        return [s.visit(Filled(one)) for one in given for s in body]

    def _called(self, statement: Any) -> list[Any]:
        """The statements of the function that a statement calls; none where they cannot stand."""
        call = _only_call(statement)
        name = dotted(call.func) if call is not None else ""
        function = self._small.get(name)
        if call is None or function is None or function in self._around:
            return []
        given = _given(function, call, name.startswith("self."))
        if given is None or self._hidden(function, given):
            return []
        self._taken[name] += 1
        self._report.change(
            function, function.name.value, "its statements stand where it is called"
        )
        return [s.visit(Filled(given)) for s in _body(function)]

    def _hidden(self, function: cst.FunctionDef, given: dict[str, Any]) -> bool:
        """Whether a name of the function means something else where it is called."""
        if not self._around:
            return False
        here = self._around[-1]
        own = {n for n in stores(here.body) if "." not in n} | set(_parameters(here))
        free = {n.value for s in _body(function) for n in walk(s) if isinstance(n, cst.Name)}
        return bool((free - set(given) - {"self"}) & own)


class _Removed(cst.CSTTransformer):
    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self._names = names

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        return cst.RemoveFromParent() if original_node.name.value in self._names else updated_node


def _functions(module: cst.Module) -> list[tuple[str, cst.FunctionDef]]:
    """Such functions of a file, and methods, by the names that call them."""
    found = []
    for node in module.body:
        held = node.body.body if isinstance(node, cst.ClassDef) else [node]
        head = "self." if isinstance(node, cst.ClassDef) else ""
        for part in held:
            if isinstance(part, cst.FunctionDef) and _is_small(part):
                found.append((f"{head}{part.name.value}", part))
    return found


def _is_small(node: cst.FunctionDef) -> bool:
    parameters = node.params
    plain = not (node.decorators or node.asynchronous or parameters.kwonly_params)
    plain = plain and not isinstance(parameters.star_arg, cst.Param) and not parameters.star_kwarg
    body = _body(node)
    loops = [s for s in body if isinstance(s, cst.For) and _loops_over_gradients(s)]
    return plain and bool(body) and all(s in loops or _is_of_gradients(s) for s in body)


def _body(node: cst.FunctionDef) -> list[Any]:
    body = list(getattr(node.body, "body", ()))
    if not isinstance(node.body, cst.IndentedBlock):
        return []
    return body[1:] if node.get_docstring() is not None else body


def _is_of_gradients(statement: Any) -> bool:
    call = _only_call(statement)
    if call is None:
        return False
    name = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
    return getattr(name, "value", "") in _CALLED


def _only_call(statement: Any) -> cst.Call | None:
    """The call that a statement is; None for others."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    inner = statement.body[0]
    value = inner.value if isinstance(inner, cst.Expr) else None
    return value if isinstance(value, cst.Call) else None


def _parameters(node: cst.FunctionDef) -> list[str]:
    return [p.name.value for p in node.params.params]


def _given(function: cst.FunctionDef, call: cst.Call, bound: bool) -> dict[str, Any] | None:
    """What a call gives each parameter; None where it is not seen, or would be computed twice."""
    names = _parameters(function)[1 if bound else 0 :]
    defaults = {p.name.value: p.default for p in function.params.params if p.default is not None}
    given: dict[str, Any] = {}
    for place, argument in enumerate(call.args):
        name = argument.keyword.value if argument.keyword is not None else ""
        if argument.star or (not name and place >= len(names)):
            return None
        given[name or names[place]] = argument.value
    given = {**defaults, **given}
    words = Counter(n.value for s in _body(function) for n in walk(s) if isinstance(n, cst.Name))
    if set(given) != set(names):
        return None
    single = all(isinstance(v, _PLAIN) or words[n] <= 1 for n, v in given.items())
    return {n: _in_brackets(v) for n, v in given.items()} if single else None


def _in_brackets(node: Any) -> Any:
    if isinstance(node, (*_PLAIN, cst.Call)) or node.lpar:
        return node
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _loops_over_gradients(node: cst.For) -> bool:
    plain = isinstance(node.target, cst.Name) and node.orelse is None
    return plain and all(_is_of_gradients(s) for s in getattr(node.body, "body", ()))


def _is_list(node: Any) -> bool:
    """Whether an expression lists names."""
    listed = isinstance(node, (cst.Tuple, cst.List))
    return listed and all(isinstance(e.value, _PLAIN) for e in node.elements)


def _lists(module: cst.Module) -> dict[str, Any]:
    """Names of a file that are given such a list, once, and never changed."""
    found: dict[str, list[Any]] = {}
    changed: set[str] = set()
    for node in everything(module):
        if isinstance(node, cst.AssignTarget):
            found.setdefault(dotted(node.target), []).append(None)
        elif isinstance(node, cst.Assign) and _is_list(node.value):
            found.setdefault(dotted(node.targets[0].target), []).append(node.value)
        elif isinstance(node, (cst.Attribute, cst.AugAssign)):
            changed.add(dotted(node.value if isinstance(node, cst.Attribute) else node.target))
    kept = {n: [v for v in values if v is not None] for n, values in found.items()}
    once = {n: v[0] for n, v in kept.items() if len(v) == 1 == found[n].count(None)}
    return {name: value for name, value in once.items() if name and name not in changed}


def _above(statement: Any, inner: list[Any]) -> list[Any]:
    """Statements under the comments of the one that they replace."""
    lines = [*statement.leading_lines, *inner[0].leading_lines]
    return [inner[0].with_changes(leading_lines=lines), *inner[1:]]
