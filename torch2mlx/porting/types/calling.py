"""Types of calls: of torch, of the file's own functions, classes and modules, of methods."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import stores
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import DIFFERENTIATED
from torch2mlx.porting.scopes.traversal import walk as nodes
from torch2mlx.porting.types import attributes as members
from torch2mlx.porting.types import torch_calls as results
from torch2mlx.porting.types.kinds import DTYPE, TENSOR, UNKNOWN, Type, join
from torch2mlx.porting.types.known import Env
from torch2mlx.porting.types.masks import mask_of
from torch2mlx.porting.types.walk import Walk, infer, self_kind, types


@types(cst.Call)
def _call(walk: Walk, node: Any, env: Env) -> Type:
    given = [infer(walk, a.value, env) for a in node.args]
    full = walk.known.full(node.func)
    if full:
        return mask_of(results.called(full, node, given), full, node, UNKNOWN)
    if isinstance(node.func, cst.Call) and dotted(node.func.func) in DIFFERENTIATED:
        infer(walk, node.func, env)
        made = infer(walk, node.func.args[1].value, env)
        _pass(walk, made.name, node, given)
        return Type("tuple", (_with_loss(walk.known.returns.get(made.name, UNKNOWN)), UNKNOWN))
    if dotted(node.func).endswith(".training.gradients"):
        return Type("list", (TENSOR,))
    if dotted(node.func).endswith((".weights.get", ".weights.Items", ".training.gradient")):
        return TENSOR
    if dotted(node.func).endswith(".options.of"):
        return members.option(node.args[1].value)
    if (
        dotted(node.func) == "getattr"
        and node.args
        and walk.known.names.of(node.args[0].value) == "torch"
    ):
        return DTYPE
    called = infer(walk, node.func, env)
    own = _of_own(walk, node, called, given, env)
    if own is not None:
        return own
    if isinstance(node.func, cst.Attribute):
        _grows(walk, node.func, given, env)
        owner, name = walk.known.of(node.func.value), node.func.attr.value
        if (owner.kind, name, [g.kind for g in given]) == ("module", "apply", ["function"]):
            _pass(walk, given[0].name, node, [Type("module")])
        return mask_of(members.method(owner, name, node, given), name, node, owner)
    return members.builtin(dotted(node.func), given)


def _with_loss(given: Type) -> Type:
    """What a function gives whose gradient is taken: a loss, alone or before other things."""
    if given.kind == "unknown":
        return TENSOR
    first = given.items[:1] if given.kind == "tuple" else ()
    if first and first[0].kind == "unknown":
        return Type("tuple", (TENSOR, *given.items[1:]))
    return given


def _of_own(walk: Walk, node: Any, called: Type, given: list[Type], env: Env) -> Type | None:
    """Calls of the file's own functions, classes and modules, and of torch's layers."""
    if called.kind == "function":
        _pass(walk, called.name, node, given)
        own = walk.known.nodes.get(called.name) or walk.known.names.functions.get(called.name)
        place = _given_back(own) if own is not None else -1
        plain = all(a.keyword is None and not a.star for a in node.args)
        if plain and 0 <= place < len(given) and given[place].kind == "module":
            return given[place]
        return walk.known.returns.get(called.name, UNKNOWN)
    if called.kind == "class":
        _pass(walk, f"{called.name}.__init__", node, given)
        before, walk.owner = walk.owner, called.name
        kind = self_kind(walk)
        walk.owner = before
        return Type(kind, name=called.name)
    if called.kind == "module" and walk.known.is_class(called.name):
        _pass(walk, f"{called.name}.forward", node, given)
        return walk.known.returns.get(f"{called.name}.forward", UNKNOWN)
    if called.kind == "module":
        _takes_tensors(walk, node, env)
        return results.layer(called.name) if called.name else _any_module(walk)
    return called.items[0] if called.kind == "lambda" and called.items else None


@lru_cache(maxsize=512)
def _given_back(function: cst.FunctionDef) -> int:
    """The place of the parameter that a function returns, whichever way it goes; -1 where it does
    not. What such a call gives is what it is given, whatever other calls give it."""
    returned = {dotted(n.value) for n in nodes(function.body) if isinstance(n, cst.Return)}
    names = [p.name.value for p in function.params.params]
    name = next(iter(returned)) if len(returned) == 1 else ""
    return names.index(name) if name in names and name not in stores(function.body) else -1


def _grows(walk: Walk, func: cst.Attribute, given: list[Type], env: Env) -> None:
    """`names.append(x)` tells what a local list holds."""
    owner, name = walk.known.of(func.value), dotted(func.value)
    if owner.kind == "list" and func.attr.value == "append" and len(given) == 1:
        held = owner.items[0] if owner.items else given[0]
        if name in env:
            env[name] = Type("list", (held,) if held == given[0] else ())


def _takes_tensors(walk: Walk, node: Any, env: Env) -> None:
    """Names that a module is called with are tensors, where nothing else is known."""
    for argument in node.args:
        if isinstance(argument.value, cst.Name) and walk.known.of(argument.value).kind == "unknown":
            name = argument.value.value
            env[name] = TENSOR
            known = walk.known.arguments.get(walk.function, {})
            walk.known.arguments.setdefault(walk.function, known).setdefault(name, TENSOR)


def _any_module(walk: Walk) -> Type:
    """What a module of an unknown class gives: what all classes of the file do, if they
    agree."""
    known = [n for n in walk.known.names.classes if walk.known.is_module_class(n)]
    found = {walk.known.returns.get(f"{name}.forward", UNKNOWN) for name in known}
    return found.pop() if len(found) == 1 else UNKNOWN


def _pass(walk: Walk, key: str, node: Any, given: list[Type]) -> None:
    """What a call tells of a function's arguments."""
    function = (
        walk.known.nodes.get(key) or walk.known.names.functions.get(key) or _method(walk, key)
    )
    if function is None:
        return
    names = [p.name.value for p in function.params.params]
    names = names[1:] if "." in key and names[:1] in (["self"], ["cls"]) else names
    known = walk.known.arguments.setdefault(key, {})
    for i, (argument, kind) in enumerate(zip(node.args, given, strict=True)):
        name = argument.keyword.value if argument.keyword is not None else None
        if name is None and i < len(names) and not argument.star:
            name = names[i]
        if name is not None and kind.kind != "unknown":
            known[name] = join(known.get(name), kind)


def _method(walk: Walk, key: str) -> Any:
    owner, _, name = key.rpartition(".")
    body = walk.known.names.classes[owner].body.body if owner in walk.known.names.classes else ()
    return next((n for n in body if isinstance(n, cst.FunctionDef) and n.name.value == name), None)
