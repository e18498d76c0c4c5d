"""Functions that change their argument: `torch.relu_(x)` and `F.relu(x, inplace=True)` become
`x.relu_()`, which is ported as methods in place are."""

from __future__ import annotations

import re
from typing import Any

import libcst as cst

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.types.views import changes_in_place

#: Why a call stays.
WHY = "it changes its argument: give that a name"
#: What a text has that calls one of them.
MARK = re.compile(r"\w_\(|\binplace\s*=|\bout\s*=|,\s*(True|False)\s*,?\s*\)")
_GROUPS = ("torch", "torch.nn.functional")
#: Functions whose argument `inplace` may be given by its place.
_INPLACE_AT = {
    **dict.fromkeys(("relu", "relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid"), 1),
    **dict.fromkeys(("leaky_relu", "elu", "celu"), 2),
    **dict.fromkeys(("hardtanh", "threshold", "dropout", "alpha_dropout", "dropout1d"), 3),
    **dict.fromkeys(("dropout2d", "dropout3d", "feature_alpha_dropout"), 3),
    "rrelu": 4,
}
#: In place alone: there is no function that gives the value.
_ALONE = ("zero", "fill")


def changes_argument(full: str) -> str:
    """The name of the function that gives the value which one in place assigns; "" of others."""
    group, _, name = full.rpartition(".")
    if group not in _GROUPS or not name.endswith("_") or name.endswith("__"):
        return ""
    base = name[:-1]
    known = base in _ALONE and group == "torch"
    return base if known or _entry(base) is not None else ""


def _entry(base: str) -> Any:
    found = find_function(f"torch.{base}") or find_function(f"torch.nn.functional.{base}")
    return found if found is not None and found.written else None


class WithoutInPlaceFunctions(cst.CSTTransformer):
    """Writes them as methods."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        """torch.relu_(x) -> x.relu_(); torch.add(x, y, out=z) -> z.copy_(torch.add(x, y))."""
        full = self._names.of(original_node.func)
        if full.startswith("torch."):
            updated_node = _with_switch(full, _without_out(updated_node))
            original_node = _with_switch(full, original_node)
        base = self._changing(original_node)
        if not base or not isinstance(updated_node.args[0].value, _PLACES):
            return updated_node
        owner = updated_node.args[0].value
        rest = [a for a in updated_node.args[1:] if not _switch(a)]
        if rest:
            rest[-1] = rest[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        func = cst.Attribute(owner, cst.Name(f"{base}_"))
        return updated_node.with_changes(func=func, args=rest)

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> Any:
        """x = torch.relu_(x) -> x.relu_()."""
        call: Any = updated_node.value
        if not changes_in_place(call) or len(updated_node.targets) != 1:
            return updated_node
        same = code(updated_node.targets[0].target) == code(call.func.value)
        known = _entry(call.func.attr.value[:-1]) is not None
        return cst.Expr(call) if same and known else updated_node

    def _changing(self, node: Any) -> str:
        """The value's function, of a call that changes its first argument."""
        if not isinstance(node, cst.Call) or not node.args or node.args[0].keyword is not None:
            return ""
        full = self._names.of(node.func)
        base = changes_argument(full)
        if base or not any(map(_switch, node.args)):
            return base
        name = full.rpartition(".")[2]
        entry = find_function(f"torch.nn.functional.{name}")
        drawn = "dropout" in name  # torch's functions of the name have other arguments
        return name if full == f"torch.nn.functional.{name}" and entry and not drawn else ""


#: What a value can be given back to.
_PLACES = (cst.Name, cst.Attribute, cst.Subscript)


def _switch(argument: cst.Arg) -> bool:
    named = argument.keyword is not None and argument.keyword.value == "inplace"
    return named and code(argument.value) == "True"


def _with_switch(full: str, call: cst.Call) -> cst.Call:
    """A call whose `inplace` is given by its place, with it by name."""
    group, _, name = full.rpartition(".")
    place = _INPLACE_AT.get(name, len(call.args)) if group == "torch.nn.functional" else -1
    if place < 0 or place >= len(call.args):
        return call
    given = call.args[place]
    if any(a.keyword is not None or a.star for a in call.args[: place + 1]):
        return call
    named = cst.Arg(given.value, cst.Name("inplace"), equal=_EQUAL)
    return call.with_changes(args=[*call.args[:place], named, *call.args[place + 1 :]])


_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def _without_out(call: cst.Call) -> cst.Call:
    """A call whose result goes to `out`: a method in place of that, which gets it."""
    out = next((a for a in call.args if a.keyword is not None and a.keyword.value == "out"), None)
    if out is None or not isinstance(out.value, _PLACES):
        return call
    rest = [a for a in call.args if a is not out]
    if rest:
        rest[-1] = rest[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    made = call.with_changes(args=rest)
    if code(out.value) == "None":
        return made
    return cst.Call(cst.Attribute(out.value, cst.Name("copy_")), [cst.Arg(made)])
