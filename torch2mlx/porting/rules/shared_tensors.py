"""Changes in place of tensors that have other names: `x[...] = value` changes an array under all
of them, and what MLX cannot change, views, is refused."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.place import Place, entering
from torch2mlx.porting.rules.requires_grad import small
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.scopes.def_use import plain_target
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import of_kinds, walk

_LINE = "it changes a part of a tensor: give it a line of its own"
_COPY = "an index of tensors or lists copies: torch changes the copy, which nothing reads"

_VIEW = "it changes `{0}` through a view: assign to `{0}`"
#: Methods of numpy's arrays that change them.
_OF_ARRAYS = ("fill", "sort", "partition", "put", "itemset", "resize", "byteswap")

#: Layers whose first argument is `inplace`.
_SWITCH_FIRST: tuple[str, ...] = (
    "torch.nn.ReLU",
    "torch.nn.ReLU6",
    "torch.nn.SELU",
    "torch.nn.SiLU",
)
_SWITCH_FIRST += ("torch.nn.Mish", "torch.nn.Hardswish", "torch.nn.Hardsigmoid")

_FIRST = "its first layer changes `{0}` in place: give it a clone, or make the layer one of its own"

#: Methods in place that change the shape, which no array of MLX can.
RESHAPING = ("unsqueeze_", "squeeze_", "t_", "transpose_", "swapaxes_", "swapdims_", "resize_")
READING = ("view", "cast")


def owned(at: Place, name: str, given: bool = False) -> bool:
    """Whether nothing but the name has the tensor that the statement changes; `given`: who
    called the function may have it too."""
    return at.file.sharing.owned(at.current, name, given)


def of_a_container(at: Place, place: Any) -> bool:
    """Whether a tensor is an item of a list, tuple or dict, which holds it under its name."""
    if not isinstance(place, cst.Subscript):
        return False
    index = place.slice[0].slice
    key = isinstance(index, cst.Index) and isinstance(index.value, cst.SimpleString)
    return key or at.type_of(place.value).kind in ("list", "tuple", "dict", "batch")


def read_later(at: Place, name: str) -> bool:
    """Whether the value that a name has in the statement is read in it or behind it."""
    return at.file.sharing.live(at.current, name)


def unchangeable(at: Place, node: Any, call: Any) -> bool:
    """Whether what a statement changes in place is refused, which is noted."""
    name, kind = at.file.sharing.held(node)
    why = {"copy": _COPY}
    why |= dict.fromkeys(READING, _VIEW.format(name))
    told = (
        why.get(kind, "")
        or (_other_shape(at, name, kind, call))
        or (at.file.sharing.conflict(at.current, name) if name else "")
    )
    return _noted(at, told, call)


def given_back(at: Place, original: Any, updated: Any, value: str, receiver: str) -> Any:
    """The value of a method in place within an expression, which its tensor gets too."""
    call: Any = original.func
    if original in at.within:
        return expression(value)
    name, kind = at.file.sharing.held(call.value)
    told = at.file.sharing.conflict(at.current, name) if name else ""
    if kind == "part":
        told = told or _LINE
    told = told or _other_shape(at, name, kind, original)
    if kind in READING and at.file.sharing.outlives(at.current, name, kind):
        told = f"it changes `{name}` through a view: assign to `{name}` first"
    if _noted(at, told, original):
        return updated
    alone = owned(at, name, call.attr.value in RESHAPING)
    passing = kind != "name" or (alone and not read_later(at, name))
    return expression(value if passing else f"kit.tensors.assign({name}, {value})")


def _other_shape(at: Place, name: str, kind: str, call: Any) -> str:
    """Why a tensor with other names cannot get another shape; "" where it can."""
    if kind != "name" or call.func.attr.value not in RESHAPING:
        return ""
    statement = isinstance(getattr(at.current, "body", [None])[0], cst.Expr)
    if owned(at, name, given=True) and (statement or not read_later(at, name)):
        return ""
    return f"it gives `{name}` another shape under other names too: assign it to each of them"


def of_layer(at: Place, original: cst.Call, updated: cst.Call) -> Any:
    """`self.relu(x)`, of a layer that changes x in place; None of other calls."""
    owner = at.classes[-1] if at.classes else ""
    if (owner, dotted(original.func)) not in at.file.in_place_layers or len(original.args) != 1:
        return None
    given = original.args[0].value
    if not isinstance(given, cst.Name):
        return None
    name, bound = given.value, plain_target(at.current)
    if owned(at, name) and (bound == name or not read_later(at, name)):
        return None
    if at.type_of(original.func).name == "torch.nn.Sequential":
        at.refuse(original, _FIRST.format(name), dotted(original.func), Code.UNCLEAR)
        return None
    at.change(original, dotted(original.func), "the layer changes its argument in place")
    return expression(f"kit.tensors.assign({name}, {code(updated)})")


def under_all_names(at: Place, original: cst.Assign, updated: cst.Assign) -> Any:
    """`x = kit.tensors.assign(x, y)` as `x[...] = y`; None of other statements."""
    call: Any = updated.value
    name = plain_target(at.current)
    known = isinstance(call, cst.Call) and code(call.func) == "kit.tensors.assign"
    if not name or not known or code(call.args[0].value) != name:
        return None
    return small(f"{name}[...] = {code(call.args[1].value)}")


def _noted(at: Place, why: str, call: Any) -> bool:
    if why:
        func: Any = call.func if isinstance(call, cst.Call) else None
        method = "" if func is None else func.attr.value
        at.refuse(call, why, f".{method}()" if method else "", Code.UNCLEAR)
    return bool(why)


@entering(cst.Call)
def _before_call(at: Place, node: cst.Call) -> None:
    """x.add_(1) in x.add_(1).mul_(2): the last one changes x."""
    func = node.func
    method = func.attr.value if isinstance(func, cst.Attribute) else ""
    if method.endswith("_") and isinstance(func.value, cst.Call):  # type: ignore[attr-defined]
        at.within.add(func.value)  # type: ignore[attr-defined]


def writes_parts(at: Place, assigned: cst.Assign) -> None:
    """Refuses the writes of `x[0] = y` that views would have to see."""
    for each in assigned.targets:
        target = each.target
        several = target.elements if isinstance(target, (cst.Tuple, cst.List)) else ()
        for part in (target, *(element.value for element in several)):
            if isinstance(part, cst.Subscript):
                changes_shared(at, part, assigned)


def changes_shared(at: Place, target: Any, statement: Any) -> None:
    """Refuses `x[0] = y` and `x += y` where a view of x, or what x is a view of, is read
    later."""
    while isinstance(target, cst.Subscript):
        target = target.value
    kind = at.type_of(target)
    if not (kind.tensor or kind.kind == "numpy"):
        return
    name = dotted(target)
    told = at.file.sharing.conflict(at.current, name) if name else _through_view(at, target)
    _noted(at, told, statement)


def fills_array(at: Place, call: cst.Call) -> bool:
    """Whether `x.numpy().fill(0)` is refused, which is noted: its numbers are those of x."""
    func: Any = call.func
    if func.attr.value not in _OF_ARRAYS or at.type_of(func.value).kind != "numpy":
        return False
    name = dotted(func.value)
    told = at.file.sharing.conflict(at.current, name) if name else _through_view(at, func.value)
    return _noted(at, told, call)


def _through_view(at: Place, node: Any) -> str:
    """Why what an expression gives cannot be changed: its numbers are those of a name."""
    name, kind = at.file.sharing.held(node)
    return _VIEW.format(name) if kind in READING else ""


def in_place_layers(module: cst.Module, names: Names) -> frozenset[tuple[str, str]]:
    """(class, name) of the layers of a file that were made with `inplace=True`, and of Sequentials
    that begin with one."""
    return frozenset(
        (owner.name.value, dotted(node.targets[0].target))
        for owner in of_kinds(module, cst.ClassDef)
        for node in walk(owner)
        if isinstance(node, cst.Assign) and _is_in_place(node.value, names)
    )


def _is_in_place(value: Any, names: Names) -> bool:
    if not isinstance(value, cst.Call) or not value.args:
        return False
    full = names.of(value.func)
    if full == "torch.nn.Sequential":
        return _is_in_place(value.args[0].value, names)
    switched = any(
        (a.keyword is not None and a.keyword.value == "inplace") and code(a.value) == "True"
        for a in value.args
    )
    placed = full in _SWITCH_FIRST and value.args[0].keyword is None
    return full.startswith("torch.nn.") and (
        switched or (placed and code(value.args[0].value) == "True")
    )
