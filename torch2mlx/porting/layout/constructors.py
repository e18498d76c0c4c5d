"""Statements of constructors: what names and attributes hold after them."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.building import Building
from torch2mlx.porting.layout.values import NONE, Member
from torch2mlx.porting.scopes.traversal import children

Env = dict[str, Member]


class Running(Building):
    """Runs over statements; `answers` gets what is returned, `repeated` says whether a loop runs
    them."""

    def _block(self, body: Any, env: Env, answers: list[Member], repeated: bool) -> None:
        for statement in body:
            self._statement(statement, env, answers, repeated)

    def _statement(self, node: Any, env: Env, answers: list[Member], repeated: bool) -> None:
        if self._simple(node, env, repeated):
            return
        if isinstance(node, cst.SimpleStatementLine):
            self._block(node.body, env, answers, repeated)
        elif isinstance(node, cst.FunctionDef):
            env[node.name.value] = Member("function", site=node, node=node, names=env)
        elif isinstance(node, cst.ClassDef):
            return
        elif isinstance(node, cst.If):
            self._if(node, env, answers, repeated)
        elif isinstance(node, cst.For):
            self._bind(node.target, self.element(self.value(node.iter, env)), env)
            self._block(node.body.body, env, answers, True)
        elif isinstance(node, cst.Return):
            answers.append(NONE if node.value is None else self.value(node.value, env))
        else:
            self._others(node, env, answers, repeated)

    def _simple(self, node: Any, env: Env, repeated: bool) -> bool:
        """Statements that bind names or call; whether it was one."""
        if isinstance(node, cst.Assign):
            value = self.value(node.value, env)
            for target in node.targets:
                self._bind(target.target, value, env)
        elif isinstance(node, cst.AnnAssign):
            if node.value is not None:
                self._bind(node.target, self.value(node.value, env), env)
        elif isinstance(node, cst.AugAssign):
            self._grow(node.target, self.value(node.value, env), env, repeated)
        elif isinstance(node, cst.Expr):
            self._expression(node.value, env, repeated)
        else:
            return False
        return True

    def _others(self, node: Any, env: Env, answers: list[Member], repeated: bool) -> None:
        for child in children(node):
            if isinstance(child, cst.BaseExpression):
                self.leak(self.value(child, env))
            elif isinstance(child, (cst.BaseSuite, cst.Else, cst.ExceptHandler, cst.Finally)):
                body = child if isinstance(child, cst.BaseSuite) else child.body
                self._block(body.body, env, answers, repeated)
            else:
                self._others(child, env, answers, repeated)

    def _if(self, node: cst.If, env: Env, answers: list[Member], repeated: bool) -> None:
        self.value(node.test, env)
        before = dict(env)
        self._block(node.body.body, env, answers, repeated)
        if node.orelse is not None:
            other = dict(before)
            body = node.orelse
            if isinstance(body, cst.If):
                self._if(body, other, answers, repeated)
            else:
                self._block(body.body.body, other, answers, repeated)
            before = other
        for name, value in before.items():
            env[name] = self.merged(env.get(name), value)

    def _expression(self, node: Any, env: Env, repeated: bool) -> None:
        """A call for its effect: a list that grows, a module that is added."""
        method = node.func if isinstance(node, cst.Call) else None
        if isinstance(method, cst.Attribute) and node.args:
            name, values = method.attr.value, [self.value(a.value, env) for a in node.args]
            owner = self.value(method.value, env)
            if name in ("append", "extend", "insert") and owner.kind == "list":
                added = values[-1] if name != "extend" else self.element(values[-1])
                grown = values[-1] if name == "extend" else Member("list", items=(added,))
                self._grow(method.value, grown, env, repeated)
                return
            if name in ("add_module", "register_module") and owner.kind == "self":
                literal = node.args[0].value
                if isinstance(literal, cst.SimpleString) and len(values) == 2:
                    self.hold(owner.name, str(literal.evaluated_value), values[1])
                    return
        self.value(node, env)

    def _grow(self, target: Any, value: Member, env: Env, repeated: bool) -> None:
        items = value.items if value.kind == "list" else (value,)
        if repeated:
            items = tuple(self.again(item) for item in items)
        held = self.value(target, env)
        if held.kind != "list":
            for item in items:
                self.leak(item)
            return
        self._bind(target, Member("list", site=held.site, items=(*held.items, *items)), env)

    def _bind(self, target: Any, value: Member, env: Env) -> None:
        if isinstance(target, (cst.Tuple, cst.List)):
            for i, part in enumerate(target.elements):
                known = value.kind == "list" and i < len(value.items)
                self._bind(part.value, value.items[i] if known else self.element(value), env)
        elif isinstance(target, cst.Name):
            env[target.value] = value
        elif isinstance(target, cst.Attribute):
            owner = self.value(target.value, env)
            if owner.kind == "self" and self.is_module(owner.name):
                self.hold(owner.name, target.attr.value, value)
            else:
                self.leak(value)
                if owner.kind == "own":
                    self.hold(owner.name, target.attr.value, value)
        else:
            self.leak(value)
            if isinstance(target, cst.Subscript):
                self.broken(self.value(target.value, env))
