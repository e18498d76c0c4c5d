"""Parameters that layers are given in roundabout ways, as assignments: a statement for each.

a.register_parameter("weight", w)           a.weight = w
a._parameters["weight"] = w           ->    a.weight = w
a.weight = b.weight = w                     a.weight = w
                                            b.weight = w
a.weight = w if tied else a.weight          if tied:
                                                a.weight = w
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types.attributes import is_weight

MARKS = ("weight", "bias", "_parameters", "register_parameter")


class PlainAssignments(cst.CSTTransformer):
    """Rewrites them; what is assigned to anything but a layer's parameter stays as it is."""

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        """`getattr(layer, "weight")` is `layer.weight`."""
        given = updated_node.args
        if dotted(updated_node.func) != "getattr" or len(given) != 2:
            return updated_node
        name = _literal(given[1].value)
        return _attribute(given[0].value, name) if _is_parameter(name) else updated_node

    def leave_Subscript(self, original_node: cst.Subscript, updated_node: cst.Subscript) -> Any:
        """`layer._parameters["weight"]` is `layer.weight`."""
        held, place = updated_node.value, updated_node.slice[0].slice
        if not isinstance(held, cst.Attribute) or held.attr.value != "_parameters":
            return updated_node
        name = _literal(place.value) if isinstance(place, cst.Index) else ""
        return _attribute(held.value, name) if name.isidentifier() else updated_node

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        if len(updated_node.body) != 1:
            return updated_node
        small = updated_node.body[0]
        if isinstance(small, cst.Expr):
            small = _registered(small.value) or small
        if not isinstance(small, cst.Assign):
            return updated_node
        made = [part for one in _apart(small) for part in _branches(one)]
        if len(made) == 1 and made[0] is updated_node.body[0]:
            return updated_node
        lines = [_line(one) for one in made]
        lines[0] = lines[0].with_changes(leading_lines=updated_node.leading_lines)
        return cst.FlattenSentinel(lines)


def _line(made: Any) -> Any:
    return made if isinstance(made, cst.If) else cst.SimpleStatementLine([made])


def _registered(call: Any) -> Any:
    """`layer.register_parameter("weight", w)` and `layer.__setattr__("weight", w)` as an
    assignment; None of other calls, and of those of `self`, which say what a class has."""
    func: Any = call.func if isinstance(call, cst.Call) else None
    named = isinstance(func, cst.Attribute) and func.attr.value in _REGISTERING
    if not named or len(call.args) != 2 or any(a.star for a in call.args):
        return None
    words = {a.keyword.value: a.value for a in call.args if a.keyword is not None}
    plain = [a.value for a in call.args if a.keyword is None]
    first, second = words.get("name"), words.get("param", words.get("value"))
    first = plain.pop(0) if first is None and plain else first
    second = plain.pop(0) if second is None and plain else second
    name = _literal(first)
    own = dotted(func.value) in ("self", "object")
    if second is None or not _is_parameter(name) or (own and not isinstance(second, _HELD)):
        return None
    if dotted(func.value) == "object":
        return None
    return cst.Assign([cst.AssignTarget(_attribute(func.value, name))], second)


_REGISTERING = ("register_parameter", "__setattr__")
_HELD = (cst.Name, cst.Attribute)


def _apart(made: cst.Assign) -> list[cst.Assign]:
    """A statement for each target of `a.weight = b.weight = w`, and of `a.weight, b.weight = v, w`
    where none of the targets is read."""
    targets = [t.target for t in made.targets]
    if len(targets) > 1 and any(map(_is_place, targets)):
        plain = all(isinstance(t, _HELD) for t in targets)
        if not plain:
            return [made]
        again = made.value if isinstance(made.value, _HELD) else targets[0]
        return [_assigned(t, again if i else made.value) for i, t in enumerate(targets)]
    first: Any = targets[0]
    value: Any = made.value
    several = isinstance(first, (cst.Tuple, cst.List)) and isinstance(made.value, cst.Tuple)
    if len(targets) > 1 or not several:
        return [made]
    pairs = list(zip(first.elements, value.elements, strict=False))
    if len(first.elements) != len(value.elements) or not _independent(pairs):
        return [made]
    return [_assigned(one.value, other.value) for one, other in pairs]


def _independent(pairs: list[Any]) -> bool:
    """Whether targets of which some are parameters can be assigned one by one."""
    if any(isinstance(part, cst.StarredElement) for pair in pairs for part in pair):
        return False
    targets = [dotted(one.value) for one, _ in pairs]
    read = "\n".join(cst.Module([]).code_for_node(other.value) for _, other in pairs)
    apart = all(target and target not in read for target in targets)
    return apart and any(_is_place(one.value) for one, _ in pairs)


def _branches(made: cst.Assign) -> list[Any]:
    """`a.weight = v if test else w` as an `if`."""
    value, targets = made.value, made.targets
    if not isinstance(value, cst.IfExp) or len(targets) > 1 or not _is_place(targets[0].target):
        return [made]
    if not any(isinstance(part, cst.Attribute) for part in _chosen(value)):
        return [made]
    target = targets[0].target
    inside, outside = (_block(target, part) for part in (value.body, value.orelse))
    orelse = cst.Else(outside) if outside is not None else None
    return [cst.If(value.test, inside or cst.IndentedBlock([_line(cst.Pass())]), orelse)]


def _chosen(value: Any) -> list[Any]:
    """What a conditional expression may give."""
    if not isinstance(value, cst.IfExp):
        return [value]
    return [*_chosen(value.body), *_chosen(value.orelse)]


def _block(target: Any, value: Any) -> cst.IndentedBlock | None:
    """One branch; None where it gives the target what it has."""
    if dotted(value) == dotted(target):
        return None
    parts = _branches(_assigned(target, value))
    return cst.IndentedBlock([_line(part) for part in parts])


def _assigned(target: Any, value: Any) -> cst.Assign:
    return cst.Assign([cst.AssignTarget(target)], value)


def _is_place(node: Any) -> bool:
    """Whether a target is a parameter of a layer, by its name, or the data of one."""
    if not isinstance(node, cst.Attribute):
        return False
    name = node.attr.value
    return _is_parameter(name) or (name == "data" and _is_place(node.value))


def _is_parameter(name: str) -> bool:
    return name in ("weight", "bias") or is_weight(name)


def _literal(node: Any) -> str:
    """The text of a string; "" of other expressions."""
    word = node.evaluated_value if isinstance(node, cst.SimpleString) else ""
    return word if isinstance(word, str) else ""


def _attribute(owner: Any, word: str) -> cst.Attribute:
    return cst.Attribute(owner, cst.Name(word))
