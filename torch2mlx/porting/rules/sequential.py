"""What goes over the layers of an nn.Sequential: MLX has them in a list, and iterating over the
module itself gives the names of its fields."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.types.attributes import SEQUENTIAL

#: Functions of Python that go over what they are given.
_ITERATING = ("enumerate", "zip", "list", "tuple", "reversed", "iter", "len", "map", "set", "any")


def is_sequential(at: Place, node: Any) -> bool:
    """Whether an expression of the source surely is an nn.Sequential."""
    kind = at.type_of(node)
    return kind.kind == "module" and kind.name == SEQUENTIAL


def layers_of(node: Any) -> cst.BaseExpression:
    """The list of its layers."""
    return expression(f"{code(node)}.layers")


def with_layers(at: Place, original: cst.Call, updated: cst.Call) -> cst.Call:
    """A call that goes over Sequentials, by `*` or as Python's functions do, of their layers."""
    over = isinstance(original.func, cst.Name) and original.func.value in _ITERATING
    args = [
        new.with_changes(value=layers_of(new.value))
        if (over or old.star == "*") and is_sequential(at, old.value)
        else new
        for old, new in zip(original.args, updated.args, strict=True)
    ]
    return updated.with_changes(args=args)
