"""Loops over the parameters of modules: arrays are values, so what is set goes into the module."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Level, Loop, Place, entering
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.views import is_data


def _loop(at: Place, call: Any, target: Any, body: tuple[Any, ...]) -> Loop | None:
    """`for p in m.parameters()` and `for name, p in m.named_parameters()`."""
    if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
        return None
    module, method = at.text(call.func.value), call.func.attr.value
    if method == "parameters" and isinstance(target, cst.Name):
        return Loop(target.value, f"{target.value}_name", module, body)
    pair = isinstance(target, cst.Tuple) and len(target.elements) == 2
    if method == "named_parameters" and pair:
        return Loop(
            dotted(target.elements[1].value), dotted(target.elements[0].value), module, body
        )
    return None


def _several(node: cst.For) -> list[tuple[Any, Any]]:
    """(iterable, target) pairs of `for a, b in zip(x, y)`, and the one of `for i, a in
    enumerate(x)`."""
    call: Any = node.iter
    target: Any = node.target
    if not isinstance(call, cst.Call) or not isinstance(target, cst.Tuple):
        return []
    name, elements = dotted(call.func), target.elements[_counted(call) :]
    if name == "enumerate" and len(target.elements) == 2 and call.args:
        return [(call.args[0].value, elements[0].value)]
    if name != "zip" or len(elements) != len(call.args):
        return []
    parts = zip(call.args, elements, strict=True)
    return [(argument.value, element.value) for argument, element in parts]


def _counted(call: cst.Call) -> int:
    """How many targets a loop has before those of its iterables."""
    return int(dotted(call.func) == "enumerate")


@entering(cst.For)
def _before_for(at: Place, node: cst.For) -> None:
    pairs = _several(node)
    body = tuple(
        n.test if isinstance(n, cst.If) else n
        for n in walk(node.body)
        if isinstance(n, (cst.SimpleStatementLine, cst.If))
    )
    found = [_loop(at, *pair, body) for pair in pairs or [(node.iter, node.target)]]
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
    call = f"kit.training.assign({loop.module}, {loop.name}, {value})"
    return f"{name} = {call}" if _read_later(at, loop) else call


def part_in_loop(at: Place, place: Any, value: str) -> str:
    """Places of the parameter of a loop set, in the module."""
    loop = loop_of(at, code(whole(place)))
    assert loop is not None
    loop.sets = True
    items = f"kit.weights.Items({loop.module}, {loop.name})"
    if _read_later(at, loop):
        return f"{loop.parameter} = {items}.put({place_text(place)}, {value})"
    return f"{items}{code(place).removeprefix(loop.parameter)} = {value}"


def place_text(place: Any) -> str:
    """The index of `p[2:4, 0]` as an expression: `(slice(2, 4), 0)`."""
    parts = []
    for element in place.slice:
        part = element.slice
        if isinstance(part, cst.Index):
            parts.append(code(part.value))
        else:
            bounds = (part.lower, part.upper, part.step)
            parts.append(f"slice({', '.join('None' if b is None else code(b) for b in bounds)})")
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def whole(place: Any) -> Any:
    """p of `p.data[2:4]`."""
    while isinstance(place, cst.Subscript) or is_data(place):
        place = place.value
    return place


def _read_later(at: Place, loop: Loop) -> bool:
    """Whether the body of the loop reads the parameter behind the statement, which then has to see
    what it was set to."""
    passed = False
    for statement in loop.body:
        reads = any(isinstance(n, cst.Name) and n.value == loop.parameter for n in walk(statement))
        if passed and reads:
            return True
        passed = passed or statement is at.current
    return False


def with_names(original: cst.For, updated: Any, level: Level) -> cst.For:
    """A loop that sets parameters, over their names too."""
    setting = {loop.parameter: loop for loop in level.loops if loop.sets}
    if not level.zipped:
        loop = setting.get(code(original.target))
        return updated if loop is None else updated.with_changes(**_named(loop))
    first = _counted(updated.iter)
    args, elements = [], list(updated.target.elements[:first])
    for argument, element in zip(updated.iter.args, updated.target.elements[first:], strict=False):
        loop = setting.get(code(element.value))
        made = {} if loop is None else _named(loop)
        args.append(argument.with_changes(value=made.get("iter", argument.value)))
        target = made.get("target", element.value)
        if made:
            target = target.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        elements.append(element.with_changes(value=target))
    args += updated.iter.args[len(args) :]
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
