"""What targets of assignments hold, of loops and comprehensions too."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types.kinds import TENSOR, UNKNOWN, Type, element, join
from torch2mlx.porting.types.known import Env
from torch2mlx.porting.types.walk import Walk, infer


def bind(walk: Walk, target: Any, value: Type, env: Env) -> None:
    if isinstance(target, (cst.Tuple, cst.List)):
        for i, part in enumerate(target.elements):
            known = value.kind == "tuple" and i < len(value.items)
            bind(walk, part.value, value.items[i] if known else _unpacked(value), env)
        return
    name = dotted(target)
    if isinstance(target, cst.Attribute):
        infer(walk, target.value, env)
        owner = walk.known.of(target.value)
        if owner.name in walk.known.attributes and owner.kind in ("module", "object", "dataset"):
            held = walk.known.attributes[owner.name]
            held[target.attr.value] = join(held.get(target.attr.value), value)
            walk.known.types[target] = held[target.attr.value]
            return
    elif isinstance(target, cst.Subscript):
        infer(walk, target, env)
        _store_item(walk, target, value, env)
        return
    if name:
        env[name] = value if value.kind != "unknown" else env.get(name, UNKNOWN)
        walk.known.types[target] = env[name]


def _store_item(walk: Walk, target: cst.Subscript, value: Type, env: Env) -> None:
    """`held[key] = value` tells what a dict that started empty holds."""
    owner, name = walk.known.of(target.value), dotted(target.value)
    place = target.slice[0].slice if len(target.slice) == 1 else None
    if owner.kind != "dict" or not name or not isinstance(place, cst.Index):
        return
    pair = (walk.known.of(place.value), value)
    grown = Type("dict", pair if owner.items in ((), pair) else (UNKNOWN, UNKNOWN))
    if isinstance(target.value, cst.Attribute):
        held = walk.known.attributes.get(walk.known.of(target.value.value).name, {})
        if target.value.attr.value in held:
            held[target.value.attr.value] = grown
    elif name in env:
        env[name] = grown


def _unpacked(value: Type) -> Type:
    if value.kind == "batch":
        return TENSOR
    return element(value) if value.kind in ("tensor", "list", "size") else UNKNOWN
