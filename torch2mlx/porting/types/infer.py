"""Types by data flow: annotations, constructors, calls, and what only tensors can do.

Functions are run over three times, so that what a call passes is known inside the function, and
what a function answers is known where it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.reaching import Bindings
from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.scopes.traversal import walk as nodes
from torch2mlx.porting.types import calling, expressions  # noqa: F401 (they register rules)
from torch2mlx.porting.types.annotations import annotated
from torch2mlx.porting.types.binding import bind
from torch2mlx.porting.types.isinstance_tests import asked_for
from torch2mlx.porting.types.kinds import NONE, NUMBERS, TENSOR, UNKNOWN, Type, element, join
from torch2mlx.porting.types.known import Env, Foreign, Types
from torch2mlx.porting.types.usage import evidence
from torch2mlx.porting.types.walk import Walk, infer, self_kind

_ROUNDS = 3
_MOVING = (cst.Global, cst.Nonlocal)


def inferred(
    module: cst.Module,
    names: Names,
    beside: Foreign | None = None,
    answers: Mapping[str, Type] = MappingProxyType({}),
) -> Types:
    """The types of a file; `beside` is known of what it imports, `answers` its author told."""
    known = Types(names, beside or Foreign(), answers)
    known.returns.update(known.foreign.returns)
    known.attributes.update(known.foreign.attributes)
    known.globals.update(known.answered("", known.globals))
    walk = Walk(known)
    for _ in range(_ROUNDS):
        _block(walk, module.body, known.globals)
    return known


def _block(walk: Walk, body: Any, env: Env) -> None:
    for statement in body:
        _statement(walk, statement, env)


def _statement(walk: Walk, node: Any, env: Env) -> None:
    rule = _RULES.get(type(node))
    if rule is not None:
        rule(walk, node, env)
        return
    for child in children(node):
        if isinstance(child, cst.BaseExpression):
            infer(walk, child, env)
        else:
            _statement(walk, child, env)


def _function_def(walk: Walk, node: cst.FunctionDef, env: Env) -> None:
    key = f"{walk.owner}.{node.name.value}" if walk.owner else node.name.value
    key = f"{walk.function}/{node.name.value}" if walk.function else key
    walk.known.nodes[key] = node
    elsewhere = walk.known.foreign.given.get(key, {})
    known = walk.known.arguments.setdefault(key, dict(elsewhere))
    inner: Env = dict(env) if not walk.owner or walk.function else dict(walk.known.globals)
    for name in _bound(walk, node):
        inner.pop(name, None)
    parameters = [*node.params.posonly_params, *node.params.params, *node.params.kwonly_params]
    for i, parameter in enumerate(parameters):
        name = parameter.name.value
        given = annotated(walk.known, parameter.annotation)
        if parameter.default is not None:
            given = join(given, infer(walk, parameter.default, env))
        if i == 0 and walk.owner and name in ("self", "cls"):
            given = Type(self_kind(walk), name=walk.owner)
        inner[name] = walk.known.told_of(key, name, join(given, known.get(name)))
        own = walk.known.is_module_class(walk.owner) or walk.known.is_function_class(walk.owner)
        if node.name.value in ("forward", "backward") and own and i:
            plain = parameter.default is None and parameter.annotation is None
            taken = inner[name].kind in ("unknown", "none") and plain
            inner[name] = TENSOR if taken else inner[name]
    before, walk.function = walk.function, key
    outer_class = walk.owner
    inner.update(walk.known.answered(key, inner))
    _evidence(walk, node, inner)
    walk.known.returns.pop(key, None)  # of the run before, which knew less
    _block(walk, node.body.body, inner)
    walk.function, walk.owner = before, outer_class
    env[node.name.value] = Type("function", name=key)


def _bound(walk: Walk, node: cst.FunctionDef) -> frozenset[str]:
    """Names that a function binds: its own, whatever has the name outside."""
    if node not in walk.bound:
        moving = (part for part in nodes(node.body) if isinstance(part, _MOVING))
        moved = {item.name.value for part in moving for item in part.names}
        walk.bound[node] = frozenset(name for name in Bindings(node).found if name not in moved)
    return walk.bound[node]


def _evidence(walk: Walk, node: cst.FunctionDef, env: Env) -> None:
    """Parameters on which something is called that only a tensor has, or a module."""
    if node not in walk.used:
        walk.used[node] = evidence(node.body, walk.known.names)
    for name, kind in walk.used[node].items():
        if env.get(name, UNKNOWN).kind in ("unknown", "none"):
            env[name] = kind


def _class_def(walk: Walk, node: cst.ClassDef, env: Env) -> None:
    before, walk.owner = walk.owner, node.name.value
    held = walk.known.attributes.setdefault(node.name.value, {})
    held.update(walk.known.answered(node.name.value, held))
    _block(walk, node.body.body, dict(env))
    walk.owner = before


def _assign(walk: Walk, node: cst.Assign, env: Env) -> None:
    value = infer(walk, node.value, env)
    for target in node.targets:
        bind(walk, target.target, value, env)


def _ann_assign(walk: Walk, node: cst.AnnAssign, env: Env) -> None:
    given = annotated(walk.known, node.annotation)
    value = infer(walk, node.value, env) if node.value is not None else UNKNOWN
    found = value if value.kind not in ("unknown", "none") else given
    bind(walk, node.target, found, env)
    if walk.owner and not walk.function and isinstance(node.target, cst.Name):
        fields = walk.known.attributes.setdefault(walk.owner, {})  # of a dataclass
        fields[node.target.value] = join(fields.get(node.target.value), given)


def _aug_assign(walk: Walk, node: cst.AugAssign, env: Env) -> None:
    value = join(infer(walk, node.target, env), infer(walk, node.value, env))
    bind(walk, node.target, value, env)


def _for(walk: Walk, node: cst.For, env: Env) -> None:
    bind(walk, node.target, element(infer(walk, node.iter, env)), env)
    _block(walk, node.body.body, env)
    if node.orelse is not None:
        _block(walk, node.orelse.body.body, env)


def _if(walk: Walk, node: cst.If, env: Env) -> None:
    """What `isinstance` asks for holds in the branch. What a branch gives a name is gone behind the
    other one; numbers of numpy are remembered, whose operators would take an array of MLX for one
    of numpy."""
    _branch(walk, node, env)
    before = dict(env)
    if node.orelse is None:
        return
    if isinstance(node.orelse, cst.If):
        _if(walk, node.orelse, env)
    else:
        _block(walk, node.orelse.body.body, env)
    for name, held in before.items():
        both = {held.kind, env[name].kind} if name in env else set()
        if "numpy" in both and both <= {"numpy", *NUMBERS}:
            env[name] = join(held, env[name])


def _branch(walk: Walk, node: cst.If, env: Env) -> None:
    infer(walk, node.test, env)
    told = asked_for(walk.known, node.test)
    before = {name: env.get(name) for name in told}
    env.update(told)
    if told:
        infer(walk, node.test, env)
    _block(walk, node.body.body, env)
    for name, found in before.items():
        if env.get(name) == told[name]:
            env.pop(name) if found is None else env.update({name: found})


def _with(walk: Walk, node: cst.With, env: Env) -> None:
    for item in node.items:
        value = infer(walk, item.item, env)
        if item.asname is not None:
            bind(walk, item.asname.name, value, env)
    _block(walk, node.body.body, env)


def _return(walk: Walk, node: cst.Return, env: Env) -> None:
    value = infer(walk, node.value, env) if node.value is not None else NONE
    walk.known.returns[walk.function] = join(walk.known.returns.get(walk.function), value)


_RULES: dict[type[cst.CSTNode], Callable[[Walk, Any, Env], None]] = {
    cst.FunctionDef: _function_def,
    cst.ClassDef: _class_def,
    cst.Assign: _assign,
    cst.AnnAssign: _ann_assign,
    cst.AugAssign: _aug_assign,
    cst.For: _for,
    cst.If: _if,
    cst.With: _with,
    cst.Return: _return,
}
