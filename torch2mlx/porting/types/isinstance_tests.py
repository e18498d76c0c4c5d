"""What `isinstance` tells of a name in the branch that it guards."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.types.kinds import Type
from torch2mlx.porting.types.known import Env, Types

_LAYERS = "torch.nn."


def asked_for(known: Types, test: Any) -> Env:
    """Names that are modules where a test holds: of the class that is asked for, or of one of
    several, whose name is then left out."""
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And):
        return {**asked_for(known, test.left), **asked_for(known, test.right)}
    if isinstance(test, cst.Comparison):
        return _of_type(known, test)
    call = isinstance(test, cst.Call) and isinstance(test.func, cst.Name)
    if not call or test.func.value != "isinstance" or len(test.args) != 2:
        return {}
    name, asked = (argument.value for argument in test.args)
    found = [_module(known, c) for c in _classes(asked)]
    if not isinstance(name, cst.Name) or not found or None in found:
        return {}
    return {name.value: Type("module", name=(found[0] or "") if len(found) == 1 else "")}


def _of_type(known: Types, test: cst.Comparison) -> Env:
    """`type(m) == nn.Conv2d`, and with `is`."""
    asked, left = test.comparisons[0], test.left
    same = isinstance(asked.operator, (cst.Is, cst.Equal)) and len(test.comparisons) == 1
    if not same or not isinstance(left, cst.Call) or len(left.args) != 1:
        return {}
    if not isinstance(left.func, cst.Name) or left.func.value != "type":
        return {}
    found, name = _module(known, asked.comparator), left.args[0].value
    return {name.value: Type("module", name=found)} if found and isinstance(name, cst.Name) else {}


def _classes(asked: Any) -> list[Any]:
    if isinstance(asked, (cst.Tuple, cst.List)):
        return [element.value for element in asked.elements]
    if isinstance(asked, cst.BinaryOperation) and isinstance(asked.operator, cst.BitOr):
        return [*_classes(asked.left), *_classes(asked.right)]
    return [asked]


def _module(known: Types, node: Any) -> str | None:
    """The name of a class of modules, empty for nn.Module; None for other classes."""
    full = known.names.of(node)
    if full == "torch.nn.Module":
        return ""
    if full.startswith(_LAYERS):
        return full
    own = isinstance(node, cst.Name) and known.is_module_class(node.value)
    return node.value if own else None
