"""Loops over the parameters of modules: arrays are values, so what is set goes into the module."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Level, Loop, Place, entering
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import dotted


def _loop(at: Place, call: Any, target: Any) -> Loop | None:
    """`for p in m.parameters()` and `for name, p in m.named_parameters()`."""
    if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
        return None
    module, method = at.text(call.func.value), call.func.attr.value
    if method == "parameters" and isinstance(target, cst.Name):
        return Loop(target.value, f"{target.value}_name", module)
    pair = isinstance(target, cst.Tuple) and len(target.elements) == 2
    if method == "named_parameters" and pair:
        return Loop(dotted(target.elements[1].value), dotted(target.elements[0].value), module)
    return None


def _zipped(node: cst.For) -> list[tuple[Any, Any]]:
    """(iterable, target) pairs of `for a, b in zip(x, y)`."""
    call: Any = node.iter
    target = node.target
    named = isinstance(call, cst.Call) and dotted(call.func) == "zip"
    if not named or not isinstance(target, cst.Tuple) or len(target.elements) != len(call.args):
        return []
    parts = zip(call.args, target.elements, strict=True)
    return [(argument.value, element.value) for argument, element in parts]


@entering(cst.For)
def _before_for(at: Place, node: cst.For) -> None:
    pairs = _zipped(node)
    found = [_loop(at, *pair) for pair in pairs or [(node.iter, node.target)]]
    level = Level([loop for loop in found if loop is not None], zipped=bool(pairs))
    if "parameters()" in code(node.iter) and not level.loops:
        level.given = {n.value for n in _names(node.target)}
    at.levels.append(level)


def loop_of(at: Place, name: str) -> Loop | None:
    """The loop over parameters that gives a name its values."""
    loops = (loop for level in reversed(at.levels) for loop in level.loops)
    return next((loop for loop in loops if loop.parameter == name and name), None)


def is_element(at: Place, name: str) -> bool:
    """Whether a name is an item of a loop over parameters of a form that is not known."""
    return any(name in level.given for level in at.levels)


def set_in_loop(at: Place, name: str, value: str) -> str:
    """The parameter of a loop set on its module."""
    loop = loop_of(at, name)
    assert loop is not None
    loop.sets = True
    return f"kit.training.assign({loop.module}, {loop.name}, {value})"


def with_names(original: cst.For, updated: Any, level: Level) -> cst.For:
    """A loop that sets parameters, over their names too."""
    setting = {loop.parameter: loop for loop in level.loops if loop.sets}
    if not level.zipped:
        loop = setting.get(code(original.target))
        return updated if loop is None else updated.with_changes(**_named(loop))
    args, elements = [], []
    for argument, element in zip(updated.iter.args, updated.target.elements, strict=True):
        loop = setting.get(code(element.value))
        made = {} if loop is None else _named(loop)
        args.append(argument.with_changes(value=made.get("iter", argument.value)))
        target = made.get("target", element.value)
        if made:
            target = target.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        elements.append(element.with_changes(value=target))
    return updated.with_changes(
        iter=updated.iter.with_changes(args=args),
        target=updated.target.with_changes(elements=elements),
    )


def _named(loop: Loop) -> dict[str, Any]:
    """The iterable and the target of names and parameters."""
    pair: Any = cst.parse_statement(f"{loop.name}, {loop.parameter} = 0\n")
    pairs = cst.parse_expression(f"kit.training.named_parameters({loop.module})")
    return {"iter": pairs, "target": pair.body[0].targets[0].target}


def _names(node: Any) -> list[cst.Name]:
    if isinstance(node, cst.Name):
        return [node]
    return [name for child in node.children for name in _names(child)]
