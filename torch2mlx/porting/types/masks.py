"""Which calls answer masks, tensors of True and False: they are indices of another kind."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.types.kinds import Type

MASK = Type("tensor", name="bool")
#: Functions and methods whose items are answers to a question.
_ASKING: tuple[str, ...] = (
    *("isnan", "isinf", "isfinite", "isneginf", "isposinf", "isreal", "isclose", "isin"),
    *("eq", "ne", "gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal"),
    *("not_equal", "logical_and", "logical_or", "logical_not", "logical_xor", "signbit"),
    *("any", "all", "bool", "BoolTensor"),
)
#: Methods that give the items of their tensor again.
_KEEPING: tuple[str, ...] = (
    *("view", "reshape", "flatten", "squeeze", "unsqueeze", "expand", "expand_as", "view_as"),
    *("transpose", "permute", "t", "contiguous", "clone", "detach", "cpu", "cuda", "repeat"),
    *("roll", "flip", "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor"),
)


def mask_of(found: Type, full: str, node: cst.Call, owner: Type) -> Type:
    """The type of a call that was found, of a mask where it answers one; `full` is the name of a
    function or the method that is called, `owner` what the method is of."""
    if found.kind != "tensor" or found.name:
        return found
    group, _, name = full.rpartition(".")
    said = [a.value for a in node.args if a.keyword is not None and a.keyword.value == "dtype"]
    casts = name in ("to", "type") and not group
    said += [a.value for a in node.args if a.keyword is None] if casts else []
    if said:
        return MASK if any(_is_bool(value) for value in said) else found
    asks = name in _ASKING and group in ("", "torch")
    kept = not group and owner == MASK and (name in _KEEPING or casts)
    return MASK if asks or kept else found


def _is_bool(node: Any) -> bool:
    """Whether an expression is written as the dtype: `torch.bool` or `bool`."""
    name = node.attr if isinstance(node, cst.Attribute) else node
    return isinstance(name, cst.Name) and name.value in ("bool", "bool_")
