"""Statements of a forward, followed: what names are, what conditions hang on."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch2mlx.analysis.evaluation import Expressions
from torch2mlx.analysis.functions import Function
from torch2mlx.analysis.values import (
    COUNTED,
    HOST,
    TENSOR,
    UNKNOWN,
    Value,
    element,
    join,
    listed,
    of_object,
    parts,
)

_DEAD = "<dead>"  # in an environment: this place is not reached


class Body(Expressions):
    """Runs over the body of one function."""

    def __init__(
        self,
        run: Any,
        function: Function,
        owner: Value | None,
        env: dict[str, Value],
        defined: type | None,
    ) -> None:
        self.run, self.function, self.env = run, function, env
        self.owner, self.defined = owner or UNKNOWN, defined
        self.returned: list[Value] = []

    def result(self) -> Value:
        """What the function may give."""
        self.block(self.function.tree.body)
        return join(self.returned) if self.returned else HOST

    def block(self, statements: Iterable[ast.stmt]) -> None:
        """Runs over statements, to the first that leaves."""
        for statement in statements:
            if _DEAD in self.env or not self.run.spend():
                return
            method = getattr(self, f"_{type(statement).__name__}", None)
            if method:
                method(statement)
            else:
                self._others(statement)

    def _others(self, node: ast.stmt) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)

    def _Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def _Return(self, node: ast.Return) -> None:
        self.returned.append(self.value(node.value))
        self.env[_DEAD] = HOST

    def _Raise(self, node: ast.Raise) -> None:
        self._others(node)
        self.env[_DEAD] = HOST

    def _Break(self, node: ast.Break | ast.Continue) -> None:
        self.env[_DEAD] = HOST

    _Continue = _Break

    def _FunctionDef(self, node: ast.FunctionDef) -> None:
        self.env[node.name] = Value("lambda", held=(node, self.env), name=f"{id(node)}")

    def _ClassDef(self, node: ast.ClassDef) -> None:
        self.env[node.name] = UNKNOWN

    def _Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.env[name] = self.function.scope.get(name, UNKNOWN) and UNKNOWN

    _ImportFrom = _Import

    def _Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.bind(target, value)

    def _AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.value(node.value))

    def _AugAssign(self, node: ast.AugAssign) -> None:
        before, added = self.value(node.target), self.value(node.value)
        bitwise = isinstance(node.op, (ast.BitAnd, ast.BitOr, ast.BitXor))
        if before.kind in ("list", "tuple"):
            self.bind(node.target, listed(join([*before.items, element(added)])))
        elif not isinstance(node.target, ast.Subscript):
            self.bind(node.target, self.combined(before, added, bitwise))

    def bind(self, target: ast.expr, value: Value) -> None:
        """Gives a name, an attribute or several of them what they now are."""
        if isinstance(target, ast.Name):
            self.env[target.id] = value
        elif isinstance(target, ast.Attribute):
            self.value(target.value)
            self.env[ast.unparse(target)] = value
        elif isinstance(target, ast.Subscript):
            self.value(target)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, listed(element(value)))
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part, item in zip(target.elts, parts(value, len(target.elts)), strict=True):
                self.bind(part, item)

    def _If(self, node: ast.If) -> None:
        self.test(node.test, node)
        before, after = dict(self.env), []
        traced = self.while_traced(node.test)
        for body, holds in ((node.body, True), (node.orelse, False)):
            if traced is not None and traced != holds:
                continue
            self.env = dict(before)
            self.assume(node.test, holds)
            self.block(body)
            after.append(self.env)
        self.env = _joined(after)

    def _While(self, node: ast.While) -> None:
        before = dict(self.env)
        for _ in range(2):
            self.test(node.test, node)
            self.block(node.body)
            self.env = _joined([before, _alive(self.env)])
        self.block(node.orelse)

    def _For(self, node: ast.For) -> None:
        over = self.over(node.iter, node)
        before = dict(self.env)
        for item in [*over, over[-1]]:
            self.bind(node.target, item)
            self.block(node.body)
            self.env = _joined([before, _alive(self.env)])
        self.block(node.orelse)

    _AsyncFor = _For

    def over(self, iterable: ast.expr, node: ast.AST) -> list[Value]:
        """What a loop runs over: one value for each kind of module, or one for all."""
        value = self.value(iterable)
        if value == COUNTED or value.kind == "read":
            self.fact("data_branch", node, f"for ... in {ast.unparse(iterable)}")
        if value.kind == "module":
            return _kinds_of(vars(value.held).get("_modules", {}).values())
        if value.kind in ("list", "tuple") and value.items[:1] and value.items[0].kind == "module":
            return _kinds_of(v.held for v in value.items if v.kind == "module")
        return self._numbered(iterable, value)

    def _numbered(self, iterable: ast.expr, value: Value) -> list[Value]:
        """`for i, block in enumerate(self.blocks)`: a pair for each kind of block."""
        call = iterable if isinstance(iterable, ast.Call) else None
        name = call.func.id if call is not None and isinstance(call.func, ast.Name) else ""
        if call is not None and name in ("enumerate", "zip", "reversed") and call.args:
            sides = [self.over(arg, arg) for arg in call.args]
            count = max(map(len, sides))
            rows = [tuple(side[min(i, len(side) - 1)] for side in sides) for i in range(count)]
            if name == "reversed":
                return [row[0] for row in rows]
            return [Value("tuple", (HOST, *row) if name == "enumerate" else row) for row in rows]
        return [element(value)]

    def _With(self, node: ast.With) -> None:
        for item in node.items:
            value = self.value(item.context_expr)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value)
        self.block(node.body)

    def _Try(self, node: ast.Try) -> None:
        before, after = dict(self.env), []
        self.block([*node.body, *node.orelse])
        after.append(self.env)
        for handler in node.handlers:
            self.env = dict(before)
            self.block(handler.body)
            after.append(self.env)
        self.env = _joined(after)
        self.block(node.finalbody)

    def _Match(self, node: ast.Match) -> None:
        if self.value(node.subject).depends:
            self.fact("data_branch", node, f"match {ast.unparse(node.subject)}")
        before, after = dict(self.env), [dict(self.env)]
        for case in node.cases:
            self.env = dict(before)
            if case.guard is not None:
                self.test(case.guard, case.guard)
            self.block(case.body)
            after.append(self.env)
        self.env = _joined(after)

    def _Assert(self, node: ast.Assert) -> None:
        self.test(node.test, node)
        self.assume(node.test, True)

    def test(self, condition: ast.expr, node: Any) -> Value:
        """A condition that Python has to decide: a fact where only a tensor's values can."""
        found = self._tested(condition)
        if found.depends:
            self.fact("data_branch", node, ast.unparse(condition))
        return found

    def _tested(self, condition: ast.expr) -> Value:
        """What the truth of a condition hangs on."""
        if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
            return self._tested(condition.operand)
        if not isinstance(condition, ast.BoolOp):
            return self.value(condition)
        before, found = dict(self.env), HOST
        for part in condition.values:
            one = self._tested(part)
            if one.kind == "tracing":
                found = one  # what follows is not asked while a program is traced
                break
            found = one if one.depends else found
            self.assume(part, isinstance(condition.op, ast.And))
        self.env = before
        return found

    def while_traced(self, condition: ast.expr) -> bool | None:
        """What a condition is while a program is traced; None where that does not decide it."""
        if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
            inner = self.while_traced(condition.operand)
            return None if inner is None else not inner
        if isinstance(condition, ast.BoolOp):
            decides = isinstance(condition.op, ast.Or)
            known = [self.while_traced(part) for part in condition.values]
            return decides if decides in known else None
        if isinstance(condition, (ast.Name, ast.Attribute, ast.Call)):
            return self.value(condition).kind == "tracing" or None
        return None

    def assume(self, condition: ast.expr, holds: bool) -> None:
        """What a condition says of a name: isinstance, is_tensor, is None."""
        if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
            self.assume(condition.operand, not holds)
        elif isinstance(condition, ast.BoolOp):
            if isinstance(condition.op, ast.And) == holds:
                for part in condition.values:
                    self.assume(part, holds)
        elif isinstance(condition, ast.Call) and condition.args:
            self._assume_type(condition, holds)

    def _assume_type(self, call: ast.Call, holds: bool) -> None:
        name = self.function.names.dotted(call.func) or ast.unparse(call.func)
        key = ast.unparse(call.args[0])
        if name == "isinstance" and len(call.args) == 2:
            tensor = "Tensor" in ast.unparse(call.args[1]).replace("torch.", "").split(".")[-1]
        elif name == "torch.is_tensor":
            tensor = True
        else:
            return
        if tensor:
            self.env[key] = TENSOR if holds else HOST
        elif holds:
            kind = ast.unparse(call.args[1])
            plain = kind.strip("()").replace(" ", "").split(",")
            known = all(part in ("int", "float", "bool", "str", "") for part in plain)
            self.env[key] = HOST if known else listed(UNKNOWN) if "list" in kind else UNKNOWN

    @contextmanager
    def scoped(self, generators: Sequence[ast.comprehension]) -> Iterator[None]:
        """The names of a comprehension, for its time."""
        before = self.env
        self.env = dict(before)
        for generator in generators:
            self.bind(generator.target, join(self.over(generator.iter, generator.iter)))
            for condition in generator.ifs:
                self.test(condition, condition)
        try:
            yield
        finally:
            self.env = before


def _calls_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def _kinds_of(modules: Iterable[Any]) -> list[Value]:
    """One module of each class."""
    first = {type(module): module for module in reversed([m for m in modules if m is not None])}
    return [of_object(module) for module in first.values()] or [UNKNOWN]


def _alive(env: dict[str, Value]) -> dict[str, Value]:
    """Where a loop goes on after a body that left it."""
    return {name: value for name, value in env.items() if name != _DEAD}


def _joined(envs: list[dict[str, Value]]) -> dict[str, Value]:
    """What names are where branches meet; branches that left do not."""
    living = [env for env in envs if _DEAD not in env]
    if not living:
        return envs[0]
    names = dict.fromkeys(name for env in living for name in env)
    return {name: join(env[name] for env in living if name in env) for name in names}
