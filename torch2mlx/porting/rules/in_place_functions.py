"""Functions that change their argument: `torch.relu_(x)` and `F.relu(x, inplace=True)`, alone on
their line, become `x.relu_()`, which is ported as methods in place are."""

from __future__ import annotations

import re
from typing import Any

import libcst as cst

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.porting.rules.context import code
from torch2mlx.porting.scopes.import_table import Names

#: Why a call stays that is not alone on its line.
WHY = "it changes its argument: give it a line of its own, and the argument a name"
#: What a text has that calls one of them.
MARK = re.compile(r"\w_\(|\binplace\s*=")
_GROUPS = ("torch", "torch.nn.functional")
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
    """Rewrites them where they are alone on a line, or where nothing else has the argument's name
    afterwards."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.Expr:
        """torch.relu_(x) -> x.relu_()."""
        base = self._changing(original_node.value, switched=True)
        call: Any = updated_node.value
        if not base or not isinstance(call.args[0].value, _PLACES):
            return updated_node
        owner, rest = call.args[0].value, [a for a in call.args[1:] if not _switch(a)]
        if rest:
            rest[-1] = rest[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        func = cst.Attribute(owner, cst.Name(f"{base}_"))
        return updated_node.with_changes(value=call.with_changes(func=func, args=rest))

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
        """x = torch.relu_(x) -> x = torch.relu(x)."""
        if not self._changing(original_node.value) or len(updated_node.targets) != 1:
            return updated_node
        call: Any = updated_node.value
        same = code(updated_node.targets[0].target) == code(call.args[0].value)
        return updated_node.with_changes(value=_value(call)) if same else updated_node

    def leave_Return(self, original_node: cst.Return, updated_node: cst.Return) -> cst.Return:
        """return torch.relu_(x) -> return torch.relu(x), of a name that goes with the function."""
        call: Any = updated_node.value
        if not self._changing(original_node.value) or not isinstance(call.args[0].value, cst.Name):
            return updated_node
        return updated_node.with_changes(value=_value(call))

    def _changing(self, node: Any, switched: bool = False) -> str:
        """The value's function, of a call that changes its first argument; `switched`: also by
        `inplace=True`."""
        if not isinstance(node, cst.Call) or not node.args or node.args[0].keyword is not None:
            return ""
        full = self._names.of(node.func)
        base = changes_argument(full)
        if base or not (switched and any(map(_switch, node.args))):
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


def _value(call: cst.Call) -> cst.Call:
    """The call of the function that gives the value."""
    func: Any = call.func
    if isinstance(func, cst.Attribute):
        return call.with_changes(func=func.with_changes(attr=cst.Name(func.attr.value[:-1])))
    return call
