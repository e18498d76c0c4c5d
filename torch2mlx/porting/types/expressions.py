"""Types of expressions, given those of names."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.scopes.traversal import walk as nodes
from torch2mlx.porting.types import attributes as members
from torch2mlx.porting.types import torch_calls as results
from torch2mlx.porting.types.binding import bind
from torch2mlx.porting.types.kinds import (
    BOOL,
    FLOAT,
    INT,
    NONE,
    NUMBERS,
    NUMPY,
    NUMPY_NUMBER,
    STR,
    TENSOR,
    UNKNOWN,
    Type,
    element,
    join,
)
from torch2mlx.porting.types.known import Env
from torch2mlx.porting.types.masks import MASK
from torch2mlx.porting.types.usage import evidence
from torch2mlx.porting.types.walk import Walk, infer, types


@types(cst.Name)
def _name(walk: Walk, node: cst.Name, env: Env) -> Type:
    if node.value in ("True", "False"):
        return BOOL
    if node.value == "None":
        return NONE
    found = env.get(node.value) or walk.known.globals.get(node.value)
    if found is None and walk.known.is_class(node.value):
        return Type("class", name=node.value)
    known = node.value in walk.known.names.functions or node.value in walk.known.foreign.returns
    if found is None and known:
        return Type("function", name=node.value)
    if found is None or found.kind == "unknown":
        walk.known.unknown[node] = walk.function
    if walk.known.answers:
        walk.known.told_of(walk.function, node.value, UNKNOWN)
    return found or UNKNOWN


@types(cst.Integer)
def _integer(walk: Walk, node: Any, env: Env) -> Type:
    return INT


@types(cst.Float)
def _float(walk: Walk, node: Any, env: Env) -> Type:
    return FLOAT


@types(cst.SimpleString)
def _simple_string(walk: Walk, node: Any, env: Env) -> Type:
    return STR


@types(cst.FormattedString)
def _formatted_string(walk: Walk, node: Any, env: Env) -> Type:
    for part in node.parts:
        if isinstance(part, cst.FormattedStringExpression):
            infer(walk, part.expression, env)
    return STR


@types(cst.Tuple)
def _tuple(walk: Walk, node: cst.Tuple, env: Env) -> Type:
    return Type("tuple", tuple(infer(walk, e.value, env) for e in node.elements))


@types(cst.List)
def _list(walk: Walk, node: cst.List, env: Env) -> Type:
    found = UNKNOWN
    for item in node.elements:
        found = join(found, infer(walk, item.value, env))
    return Type("list", (found,))


@types(cst.ListComp, cst.GeneratorExp)
def _list_comp(walk: Walk, node: Any, env: Env) -> Type:
    return Type("list", (infer(walk, node.elt, _comprehended(walk, node, env)),))


@types(cst.DictComp)
def _dict_comp(walk: Walk, node: Any, env: Env) -> Type:
    inner = _comprehended(walk, node, env)
    return Type("dict", (infer(walk, node.key, inner), infer(walk, node.value, inner)))


@types(cst.Dict)
def _dict(walk: Walk, node: Any, env: Env) -> Type:
    """A dict holds a type of values only where all of its literal's are of that."""
    pairs = [e for e in node.elements if isinstance(e, cst.DictElement)]
    keys = {infer(walk, e.key, env) for e in pairs}
    values = {infer(walk, e.value, env) for e in node.elements}
    if len(pairs) != len(node.elements) or len(keys) != 1 or len(values) != 1:
        return Type("dict")
    return Type("dict", (keys.pop(), values.pop()))


def _comprehended(walk: Walk, node: Any, env: Env) -> Env:
    """The names inside of a comprehension."""
    inner = dict(env)
    part = node.for_in
    while part is not None:
        given = element(infer(walk, part.iter, inner))
        for name in nodes(part.target):
            if isinstance(name, cst.Name):
                inner.pop(name.value, None)  # its own, whatever has the name outside
        bind(walk, part.target, given, inner)
        for condition in part.ifs:
            infer(walk, condition.test, inner)
        part = part.inner_for_in
    return inner


@types(cst.UnaryOperation)
def _unary_operation(walk: Walk, node: Any, env: Env) -> Type:
    found = infer(walk, node.expression, env)
    return BOOL if isinstance(node.operator, cst.Not) else found


_OF_BITS = (cst.BitAnd, cst.BitOr, cst.BitXor)


@types(cst.BinaryOperation)
def _binary_operation(walk: Walk, node: Any, env: Env) -> Type:
    left, right = infer(walk, node.left, env), infer(walk, node.right, env)
    if left == right == MASK and isinstance(node.operator, _OF_BITS):
        return MASK
    if left.tensor or right.tensor:
        return TENSOR
    if isinstance(node.operator, cst.Divide) and {left.kind, right.kind} <= {"int", "float"}:
        return FLOAT
    kinds = {left.kind, right.kind}
    if "numpy" in kinds and kinds <= {"numpy", *NUMBERS}:
        whole = NUMPY in (left, right)
        return NUMPY if whole else NUMPY_NUMBER
    return join(left, right) if "unknown" not in kinds else UNKNOWN


@types(cst.Comparison)
def _comparison(walk: Walk, node: Any, env: Env) -> Type:
    left = infer(walk, node.left, env)
    others = [infer(walk, c.comparator, env) for c in node.comparisons]
    plain = (cst.Is, cst.IsNot, cst.In, cst.NotIn)
    if any(isinstance(c.operator, plain) for c in node.comparisons):
        return BOOL
    return MASK if any(t.tensor for t in (left, *others)) else BOOL


@types(cst.BooleanOperation)
def _boolean_operation(walk: Walk, node: Any, env: Env) -> Type:
    return join(infer(walk, node.left, env), infer(walk, node.right, env))


@types(cst.IfExp)
def _if_exp(walk: Walk, node: Any, env: Env) -> Type:
    infer(walk, node.test, env)
    return join(infer(walk, node.body, env), infer(walk, node.orelse, env))


@types(cst.Lambda)
def _lambda(walk: Walk, node: Any, env: Env) -> Type:
    own = [p.name.value for p in node.params.params]
    inner = {**env, **{name: walk.known.told_of(walk.function, name, UNKNOWN) for name in own}}
    known = evidence(node.body, walk.known.names)
    inner.update({n: t for n, t in known.items() if n in inner})
    return Type("lambda", (infer(walk, node.body, inner),))


#: What numpy makes an array of by a subscript, whatever that is.
_JOINED = ("numpy.r_", "numpy.c_")


@types(cst.Subscript)
def _subscript(walk: Walk, node: Any, env: Env) -> Type:
    owner = infer(walk, node.value, env)
    places = [e.slice for e in node.slice]
    if walk.known.names.of(node.value) in _JOINED:
        owner = NUMPY
    for place in places:
        for child in children(place):
            infer(walk, child, env)
    return members.subscript(owner, places)


@types(cst.Attribute)
def _attribute(walk: Walk, node: Any, env: Env) -> Type:
    full = walk.known.names.of(node)
    if full:
        return results.constant(full)
    owner = infer(walk, node.value, env)
    if owner.name in walk.known.attributes:
        found = walk.known.attributes[owner.name].get(node.attr.value)
        if found is None or found.kind == "unknown":
            walk.known.unknown[node] = owner.name
        walk.known.told_of(owner.name, node.attr.value, UNKNOWN)
        if found is not None:
            return found
        if f"{owner.name}.{node.attr.value}" in walk.known.arguments:
            return Type("function", name=f"{owner.name}.{node.attr.value}")
    return members.attribute(owner, node.attr.value)
