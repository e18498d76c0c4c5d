"""Statements of constructors: what names and attributes hold after them."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.members import Env, Run, item_of, made_again, member_of, merged
from torch2mlx.porting.layout.queries import method
from torch2mlx.porting.layout.values import NONE, Member
from torch2mlx.porting.scopes.traversal import children


def block(run: Run, body: Any, env: Env, answers: list[Member], repeated: bool) -> None:
    for statement in body:
        _statement(run, statement, env, answers, repeated)


def _statement(run: Run, node: Any, env: Env, answers: list[Member], repeated: bool) -> None:
    if _simple(run, node, env, repeated):
        return
    if isinstance(node, cst.SimpleStatementLine):
        block(run, node.body, env, answers, repeated)
    elif isinstance(node, cst.FunctionDef):
        env[node.name.value] = Member("function", site=node, node=node, names=env)
    elif isinstance(node, cst.ClassDef):
        return
    elif isinstance(node, cst.If):
        _if(run, node, env, answers, repeated)
    elif isinstance(node, cst.For):
        bind(run, node.target, item_of(member_of(run, node.iter, env)), env)
        block(run, node.body.body, env, answers, True)
    elif isinstance(node, cst.Return):
        answers.append(NONE if node.value is None else member_of(run, node.value, env))
    else:
        _others(run, node, env, answers, repeated)


def _simple(run: Run, node: Any, env: Env, repeated: bool) -> bool:
    """Statements that bind names or call; whether it was one."""
    if isinstance(node, cst.Assign):
        value = member_of(run, node.value, env)
        for target in node.targets:
            bind(run, target.target, value, env)
    elif isinstance(node, cst.AnnAssign):
        if node.value is not None:
            bind(run, node.target, member_of(run, node.value, env), env)
    elif isinstance(node, cst.AugAssign):
        _grow(run, node.target, member_of(run, node.value, env), env, repeated)
    elif isinstance(node, cst.Expr):
        _expression(run, node.value, env, repeated)
    else:
        return False
    return True


def _others(run: Run, node: Any, env: Env, answers: list[Member], repeated: bool) -> None:
    for child in children(node):
        if isinstance(child, cst.BaseExpression):
            run.members.leak(member_of(run, child, env))
        elif isinstance(child, (cst.BaseSuite, cst.Else, cst.ExceptHandler, cst.Finally)):
            body = child if isinstance(child, cst.BaseSuite) else child.body
            block(run, body.body, env, answers, repeated)
        else:
            _others(run, child, env, answers, repeated)


def _if(run: Run, node: cst.If, env: Env, answers: list[Member], repeated: bool) -> None:
    member_of(run, node.test, env)
    before = dict(env)
    block(run, node.body.body, env, answers, repeated)
    if node.orelse is not None:
        other = dict(before)
        body = node.orelse
        if isinstance(body, cst.If):
            _if(run, body, other, answers, repeated)
        else:
            block(run, body.body.body, other, answers, repeated)
        before = other
    for name, value in before.items():
        env[name] = merged(env.get(name), value)


def _expression(run: Run, node: Any, env: Env, repeated: bool) -> None:
    """A call for its effect: a list that grows, a module that is added."""
    method = node.func if isinstance(node, cst.Call) else None
    if isinstance(method, cst.Attribute) and node.args:
        name, values = method.attr.value, [member_of(run, a.value, env) for a in node.args]
        owner = member_of(run, method.value, env)
        if name in ("append", "extend", "insert") and owner.kind == "list":
            added = values[-1] if name != "extend" else item_of(values[-1])
            grown = values[-1] if name == "extend" else Member("list", items=(added,))
            _grow(run, method.value, grown, env, repeated)
            return
        if name in ("add_module", "register_module") and owner.kind == "self":
            literal = node.args[0].value
            if isinstance(literal, cst.SimpleString) and len(values) == 2:
                _held(run, owner.name, str(literal.evaluated_value), values[1])
                return
    member_of(run, node, env)


def _held(run: Run, owner: str, name: str, value: Member) -> None:
    """An attribute of a class; where a Sequential runs it as one more layer, all of that keeps
    torch's layout."""
    run.members.hold(owner, name, value)
    node = run.names.classes[owner]
    chain = any(run.names.of(base.value) == "torch.nn.Sequential" for base in node.bases)
    if chain and method(node, "forward") is None:
        run.members.broken(value)
        run.members.outer.add(owner)


def _grow(run: Run, target: Any, value: Member, env: Env, repeated: bool) -> None:
    items = value.items if value.kind == "list" else (value,)
    if repeated:
        items = tuple(made_again(item) for item in items)
    held = member_of(run, target, env)
    if held.kind != "list":
        for item in items:
            run.members.leak(item)
        return
    bind(run, target, Member("list", site=held.site, items=(*held.items, *items)), env)


def bind(run: Run, target: Any, value: Member, env: Env) -> None:
    if isinstance(target, (cst.Tuple, cst.List)):
        for i, part in enumerate(target.elements):
            known = value.kind == "list" and i < len(value.items)
            bind(run, part.value, value.items[i] if known else item_of(value), env)
    elif isinstance(target, cst.Name):
        env[target.value] = value
    elif isinstance(target, cst.Attribute):
        owner = member_of(run, target.value, env)
        if owner.kind == "self" and run.is_module(owner.name):
            _held(run, owner.name, target.attr.value, value)
        else:
            run.members.leak(value)
            if owner.kind == "chain":
                run.members.broken(owner)  # it has one more layer
            if owner.kind == "own":
                run.members.hold(owner.name, target.attr.value, value)
    else:
        run.members.leak(value)
        if isinstance(target, cst.Subscript):
            run.members.broken(member_of(run, target.value, env))
