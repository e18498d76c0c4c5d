"""What goes over the layers of an nn.Sequential: MLX has them in a list, and iterating over the
module itself gives the names of its fields."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.queries import method
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types.attributes import SEQUENTIAL

#: Functions of Python that go over what they are given.
_ITERATING = ("enumerate", "zip", "list", "tuple", "reversed", "iter", "len", "map", "set", "any")


def is_sequential(at: Place, node: Any) -> bool:
    """Whether an expression of the source surely is an nn.Sequential, or of a subclass that gives
    its layers as that does."""
    kind = at.type_of(node)
    return kind.kind == "module" and (kind.name == SEQUENTIAL or _derives(at, kind.name))


def _derives(at: Place, name: str) -> bool:
    own = at.file.types.names.classes.get(name)
    if own is None:
        return False
    methods = {part.name.value for part in own.body.body if isinstance(part, cst.FunctionDef)}
    if methods & {"__getitem__", "__iter__", "__len__"}:
        return False
    bases = [base.value for base in own.bases]
    full = [at.file.types.names.of(base) for base in bases]
    return SEQUENTIAL in full or any(_derives(at, dotted(b)) for b in bases if dotted(b) != name)


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


def takes_layer(at: Place, target: Any, value: Any) -> bool:
    """Whether `target = value` gives a Sequential one more layer, or another in a layer's place:
    torch runs what is set as an attribute, where the class has no forward of its own."""
    if not isinstance(target, cst.Attribute) or not is_sequential(at, target.value):
        return False
    own = at.file.types.names.classes.get(at.type_of(target.value).name)
    if own is not None and method(own, "forward") is not None:
        return False
    return at.type_of(value).kind in ("module", "modules")
