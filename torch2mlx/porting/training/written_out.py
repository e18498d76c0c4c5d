"""A call of a function as the statements of the function, which mean the same where it stands.

def back(model, x):                         x_2 = x + 1
    x = x * 2                               x_2 = x_2 * 2
    loss = model(x).mean()           ->     loss = net(x_2).mean()
    loss.backward()                         loss.backward()
    return loss.item()                      total = loss.item()
total = back(net, x + 1)

Arguments are evaluated once and in their order; names that the function binds are its own. What
cannot be said so is no call to be written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.filled import Filled
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import children, of_kinds, walk, words_of

#: What statements of a function that is written out cannot hold.
_APART = (
    *(cst.FunctionDef, cst.ClassDef, cst.Lambda, cst.Global, cst.Nonlocal, cst.Yield, cst.Await),
    *(cst.Import, cst.ImportFrom, cst.Try, cst.TryStar, cst.Del, cst.NamedExpr),
)
#: Names of methods that tensors and optimizers have too.
_OF_TORCH = ("backward", "step", "zero_grad")
_NUMBERS = (cst.Integer, cst.Float, cst.SimpleString)
_CONSTANT = ("None", "True", "False")


def body_of(function: cst.FunctionDef) -> list[Any]:
    """The statements of a function, without its docstring."""
    body = list(function.body.body) if isinstance(function.body, cst.IndentedBlock) else []
    return body[1:] if body and function.get_docstring() is not None else body


def can_be_written_out(function: cst.FunctionDef) -> bool:
    """Whether a function is a row of statements that leaves by its end alone."""
    held = function.params
    plain = not (function.decorators or function.asynchronous or held.kwonly_params)
    plain = plain and not held.posonly_params and not held.star_kwarg
    plain = plain and not isinstance(held.star_arg, (cst.Param, cst.ParamStar))
    body = body_of(function)
    parts = [part for statement in body for part in walk(statement)]
    ends = [p for p in parts if isinstance(p, cst.Return)]
    last = body[-1].body[-1] if body and isinstance(body[-1], cst.SimpleStatementLine) else None
    kept = all(end is last for end in ends) and not any(isinstance(p, _APART) for p in parts)
    defaults = all(is_constant(p.default) for p in held.params if p.default is not None)
    named = {p.value for p in parts if isinstance(p, cst.Name)}
    return plain and bool(body) and kept and defaults and not named & {"super", "locals", "vars"}


def is_constant(node: Any) -> bool:
    """Whether an expression is a number, a text, None, True or False."""
    if isinstance(node, cst.UnaryOperation):
        return isinstance(node.expression, (cst.Integer, cst.Float))
    return isinstance(node, _NUMBERS) or (isinstance(node, cst.Name) and node.value in _CONSTANT)


def bound(statements: list[Any]) -> dict[str, None]:
    """The plain names that statements bind, in their order."""
    found: dict[str, None] = {}
    for statement in statements:
        for part in walk(statement):
            targets: list[Any] = []
            if isinstance(part, cst.Assign):
                targets = [t.target for t in part.targets]
            elif isinstance(part, (cst.AugAssign, cst.AnnAssign, cst.For, cst.CompFor)):
                targets = [part.target]
            elif isinstance(part, cst.AsName):
                targets = [part.name]
            found |= dict.fromkeys(n for target in targets for n in _plain(target))
    return found


def _plain(target: Any) -> list[str]:
    if isinstance(target, cst.Name):
        return [target.value]
    if isinstance(target, cst.StarredElement):
        return _plain(target.value)
    parts = target.elements if isinstance(target, (cst.Tuple, cst.List)) else ()
    return [name for part in parts for name in _plain(part.value)]


def free(function: cst.FunctionDef) -> set[str]:
    """The names that a function takes from around it."""
    own = {p.name.value for p in function.params.params} | set(bound(body_of(function)))
    return {name for s in body_of(function) for name in names_in(s)} - own


def names_in(node: Any) -> set[str]:
    """The plain names in a node, but for attributes and keywords."""
    words = words_of(node)
    return {p.value for p in walk(node) if isinstance(p, cst.Name) and p not in words}


class _Decided(cst.CSTTransformer):
    """Leaves out branches that constants decide."""

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> Any:
        """A branch that a constant decides."""
        known = _decided(updated_node.test)
        if known is None:
            return updated_node
        other = updated_node.orelse
        if not known and isinstance(other, cst.If):
            return other
        kept = updated_node.body if known else other.body if other is not None else None
        body = list(kept.body) if isinstance(kept, cst.IndentedBlock) else []
        return cst.FlattenSentinel(body) if body else cst.RemoveFromParent()


def _decided(test: Any) -> bool | None:
    """What a condition of constants says; None of others."""
    if isinstance(test, cst.Name) and test.value in _CONSTANT:
        return test.value == "True"
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return None
    compared = test.comparisons[0]
    if not is_constant(test.left) or dotted(compared.comparator) != "None":
        return None
    none = dotted(test.left) == "None"
    if isinstance(compared.operator, cst.Is):
        return none
    return not none if isinstance(compared.operator, cst.IsNot) else None


def arguments(function: cst.FunctionDef, call: cst.Call, skipped: int) -> list[Any] | None:
    """(name, expression, whether it is a default) of each parameter, in the order of evaluation;
    None where that is not seen. `skipped`: parameters that the call does not give."""
    parameters = list(function.params.params)[skipped:]
    names = [p.name.value for p in parameters]
    given: list[Any] = []
    for place, argument in enumerate(call.args):
        name = argument.keyword.value if argument.keyword is not None else ""
        if argument.star or (not name and place >= len(names)) or (name and name not in names):
            return None
        given.append((name or names[place], argument.value, False))
    known = [name for name, _, _ in given]
    if len(set(known)) < len(known):
        return None
    for parameter in parameters:
        if parameter.name.value not in known:
            if parameter.default is None:
                return None
            given.append((parameter.name.value, parameter.default, True))
    return given


def written_out(
    function: cst.FunctionDef,
    given: list[Any],
    steady: Callable[[Any], bool],
    fresh: Callable[[str], str],
    target: str,
) -> tuple[list[Any], Any]:
    """The statements of a call, and the expression that it gives, or None. `steady`: whether an
    argument is the same all along the function; `fresh` makes names; `target`: the name that gets
    what the function gives, where that name may be its own."""
    body = body_of(function)
    own = bound(body)
    last = body[-1].body[-1] if isinstance(body[-1], cst.SimpleStatementLine) else None
    value = last.value if isinstance(last, cst.Return) else None
    filled: dict[str, Any] = {}
    made: list[Any] = []
    for name, expression, _ in given:
        if name not in own and (is_constant(expression) or steady(expression)):
            filled[name] = expression
        else:
            filled[name] = cst.Name(fresh(name))
            made.append(_assigned(filled[name], expression))
    for name in own:
        if name not in filled:
            same = target and isinstance(value, cst.Name) and value.value == name
            filled[name] = cst.Name(target if same else fresh(name))
    if isinstance(last, cst.Return):
        rest = body[-1].body[:-1]
        body = [*body[:-1], *([body[-1].with_changes(body=rest)] if rest else [])]
    for statement in body:
        done = statement.deep_clone().visit(Filled(filled)).visit(_Decided())
        made += _listed(done)
    return made, None if value is None else value.deep_clone().visit(Filled(filled))


def _listed(done: Any) -> list[Any]:
    if isinstance(done, cst.FlattenSentinel):
        return list(done)
    return [done] if isinstance(done, cst.CSTNode) else []


def _assigned(name: cst.Name, value: Any) -> Any:
    made = cst.Assign(targets=[cst.AssignTarget(name)], value=value)
    return cst.SimpleStatementLine(body=[made])


def first_call(statement: Any, wanted: Callable[[cst.Call], bool]) -> cst.Call | None:
    """The wanted call of a statement that is evaluated before everything that may matter to it:
    `out.append(float(f(x)))`; None where there is none."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    small = statement.body[0]
    if not isinstance(small, (cst.Expr, cst.Assign, cst.AnnAssign, cst.AugAssign, cst.Return)):
        return None
    found = [c for c in walk(small) if isinstance(c, cst.Call) and wanted(c)]
    if len(found) != 1 or small.value is None:
        return None
    node: Any = small.value
    while node is not found[0]:
        if isinstance(node, cst.BinaryOperation):  # its left side is the first
            node = node.left
            continue
        inner = [part for part in _evaluated(node) if any(p is found[0] for p in walk(part))]
        before = [p for p in _evaluated(node) if not isinstance(p, cst.Arg)]
        if not isinstance(node, (cst.Call, cst.Attribute, cst.Arg)) or len(inner) != 1:
            return None
        beside = [p for p in before if p is not inner[0]]
        others = [a.value for a in getattr(node, "args", ()) if a is not inner[0]]
        if not all(dotted(p) for p in beside) or not all(is_constant(p) for p in others):
            return None
        node = inner[0]
    return found[0]


def _evaluated(node: Any) -> list[Any]:
    """The parts of an expression that are evaluated: keywords and names of attributes are not."""
    if isinstance(node, cst.Attribute):
        return [node.value]
    if isinstance(node, cst.Arg):
        return [node.value]
    return children(node)


def uses_of_method(module: cst.Module, method: cst.FunctionDef) -> int:
    """How often a method may be used. `loss.backward()` is none of `self.backward()`, where the
    file makes no object of a class of its own under that name."""
    name = method.name.value
    uses = [n for n in of_kinds(module, cst.Attribute) if n.attr.value == name]
    if name not in _OF_TORCH:
        return len(uses)
    classes = {n.name.value for n in of_kinds(module, cst.ClassDef)} | {"super"}
    made = [m for m in of_kinds(module, cst.Assign) if _calls_one(m.value, classes)]
    objects = {dotted(t.target) for m in made for t in m.targets} | {"self"}
    return sum(dotted(n.value) in objects or _calls_one(n.value, classes) for n in uses)


def _calls_one(node: Any, names: set[str]) -> bool:
    return isinstance(node, cst.Call) and dotted(node.func) in names
