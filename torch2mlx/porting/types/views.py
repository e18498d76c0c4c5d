"""Expressions whose tensors are views of others, and what calls in place give back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.types.kinds import Type

#: Methods and functions whose results read the tensor they are called on.
_VIEWS = (
    *("view", "reshape", "flatten", "t", "transpose", "permute", "squeeze", "unsqueeze"),
    *("narrow", "select", "chunk", "split", "unbind", "expand", "expand_as", "view_as"),
    *("diagonal", "unfold", "swapaxes", "movedim", "detach", "unflatten", "tensor_split"),
    *("hsplit", "vsplit", "dsplit", "ravel", "as_strided", "moveaxis", "swapdims", "adjoint"),
    *("broadcast_to", "atleast_1d", "atleast_2d", "atleast_3d", "positive", "split_with_sizes"),
)
FIELDS = frozenset(("T", "mT", "mH", "H", "data", "real", "imag"))
#: Views after which `reshape` and `flatten` copy.
_TURNING = frozenset(
    ["t", "transpose", "permute", "expand", "expand_as", "swapaxes", "movedim", "T", "mT", "H"]
)
_COPYING = frozenset(["reshape", "flatten", "contiguous", "ravel"])
#: Methods that give back the tensor itself where nothing is to be done.
_CASTS: tuple[str, ...] = (
    "float",
    "double",
    "half",
    "bfloat16",
    "long",
    "int",
    "to",
    "type",
    "type_as",
)
_CASTS += ("cpu", "cuda")
#: Functions whose tensors read the memory of an array.
_WRAPPING = ("from_numpy", "as_tensor", "asarray")


_QUOTES = "\"'"


class Views:
    """What expressions are views of."""

    def __init__(self, names: Names, type_of: Callable[[Any], Type]) -> None:
        self._names, self._type_of = names, type_of

    def base(self, value: Any) -> tuple[str, str]:
        """The dotted name whose tensor an expression reads, and how: as a "view", or as a "cast",
        which is the tensor itself where its dtype is the same; ("", "") of others."""
        steps = []
        while True:
            step, inner = self.step(value)
            if inner is None:
                break
            steps.append(step)
            value = inner
        steps.reverse()
        for i, step in enumerate(steps):
            if step in _COPYING and set(steps[:i]) & _TURNING:
                return "", ""
        known, name = self._type_of(value), dotted(value) or _weight(value)
        if not steps or not (known.tensor or known.kind == "numpy") or not name:
            return "", ""
        return name, "cast" if set(steps) & set(_CASTS) else "view"

    def step(self, value: Any) -> tuple[str, Any]:
        """(what the outermost view is, what it is taken of), None where it is no view."""
        if isinstance(value, cst.Subscript):
            return "[]", value.value if self.basic(value) else None
        if isinstance(value, cst.Attribute) and value.attr.value in FIELDS:
            return value.attr.value, value.value
        if isinstance(value, cst.Call):
            full = self._names.of(value.func)
            name = full.rpartition(".")[2] if full.startswith("torch.") else ""
            if name in (*_VIEWS, *_WRAPPING) and value.args:
                return name, value.args[0].value
            if not full and isinstance(value.func, cst.Attribute):
                method = value.func.attr.value
                if method in (*_VIEWS, *_CASTS, "contiguous", "numpy"):
                    return method, value.func.value
        return "", None

    def basic(self, value: cst.Subscript) -> bool:
        """Whether an index takes a view: numbers, slices, None and an ellipsis do."""
        for element in value.slice:
            part: Any = element.slice
            if isinstance(part, cst.Slice):
                continue
            index = part.value
            kind = self._type_of(index)
            if kind.tensor or kind.kind in ("list", "numpy", "bool") or kind.name == "bool":
                return False
            if isinstance(index, (cst.List, cst.ListComp, cst.Comparison)):
                return False
        return True


def _weight(node: Any) -> str:
    """The name of a weight that a layer is asked for, as `conv.weight`; "" of other calls."""
    if not isinstance(node, cst.Call) or dotted(node.func) != f"{KIT}.weights.get":
        return ""
    layer, key = (cst.Module([]).code_for_node(argument.value) for argument in node.args)
    return f"{layer}.{key.strip(_QUOTES)}"


def changed(node: Any) -> Any:
    """The expression whose tensor calls in place give back."""
    while changes_in_place(node):
        node = node.func.value
    return node


def changes_in_place(node: Any) -> bool:
    if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
        return False
    name = node.func.attr.value
    return name.endswith("_") and not name.endswith("__")


def is_data(node: Any) -> bool:
    return isinstance(node, cst.Attribute) and node.attr.value == "data"


def without_data(place: Any) -> Any:
    """`p[2:4]` of `p.data[2:4]`, and of `mx.stop_gradient(p)[2:4]`, which that becomes."""
    if is_data(place):
        return without_data(place.value)
    if isinstance(place, cst.Subscript):
        return place.with_changes(value=without_data(place.value))
    if isinstance(place, cst.Call) and dotted(place.func) == "mx.stop_gradient":
        return place.args[0].value
    return place


def attached(node: Any) -> Any:
    """The tensor that `.detach()` and `.data` are taken of."""
    while True:
        held = node.func if isinstance(node, cst.Call) and not node.args else node
        if not isinstance(held, cst.Attribute):
            return node
        if held.attr.value != ("data" if held is node else "detach"):
            return node
        node = held.value
