"""Operators that run a graph of their own: regions without gradients, autocast, checkpoints, and
control flow."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from torch2mlx.errors import Code
from torch2mlx.export.capture.schemas import flat, name_of, turns_in_place
from torch2mlx.export.ir.builder import Refuse, Unmade
from torch2mlx.export.ir.nodes import Node, Program, operands
from torch2mlx.export.lower import nested_functions as functions
from torch2mlx.export.lower.nested_functions import Function


def lower(lowering: Any, node: Any, name: str) -> None:
    """Lowers a higher-order operator by its name."""
    rule = _RULES.get(name)
    if rule is None:
        raise Refuse("a higher-order operator that has no lowering", Code.NO_LOWERING)
    rule(lowering, node)


def _inline(lowering: Any, node: Any, graph_module: Any, operands: Any) -> tuple[Any, ...]:
    """Lowers a nested graph where it is called."""
    places = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
    for place, operand in zip(places, operands, strict=True):
        value = lowering.value(operand)
        lowering.storage.set(place, value)
        if hasattr(operand, "users") and lowering.layers.mutating and isinstance(value, Node):
            lowering.same(place, operand)
    if not lowering.autocast:  # a stock layer would compute in its weights' dtype
        lowering.layers.find(graph_module.graph)
    results: tuple[Any, ...] = lowering.run(graph_module.graph, graph_module)
    if lowering.refused:
        raise Unmade("depends on what could not be lowered in it")
    return results


def _no_grad(lowering: Any, node: Any) -> None:
    enabled, submodule, *operands = node.args
    graph, storage = lowering.value(submodule).graph, lowering.storage
    before, storage.recording = storage.recording, bool(enabled)
    try:
        results = _inline(lowering, node, graph.owning_module, operands)
    finally:
        storage.recording = before
    if not enabled:
        outputs = _outputs(graph)
        results = tuple(
            r if _from_outside(storage, output) is not None else _stopped(lowering, r)
            for r, output in zip(results, outputs, strict=True)
        )
    storage.set(node, results)


def _outputs(graph: Any) -> list[Any]:
    return flat(next(n.args[0] for n in graph.nodes if n.op == "output"))


#: What gives its very argument back where it has nothing to do, and not a view of it.
_GIVES_BACK = {f"aten::{n}" for n in ("to", "contiguous", "dropout", "feature_dropout", "conj")}
_GIVES_BACK |= {f"aten::{n}" for n in ("alpha_dropout", "flatten", "real", "positive")}
_GIVES_BACK |= {f"aten::{n}" for n in ("type_as", "resolve_conj", "resolve_neg")}


def _from_outside(storage: Any, node: Any, turned: bool = True) -> Any:
    """The placeholder that a graph node is, the tensor itself: it keeps its gradient, whatever the
    region records. None of what was made inside, and, unless `turned`, of what has another shape
    now."""
    while getattr(node, "op", "") == "call_function":
        back = storage.given_back(node)
        if back is None and hasattr(node.target, "_schema"):
            first = node.args[0] if node.args else None
            known = name_of(node.target) in _GIVES_BACK and first in storage
            known = known and storage.get(node) is storage.get(first)
            back = first if known or (turned and turns_in_place(node.target)) else None
        elif back is None and node.target is operator.getitem:
            back = operand_of(storage, *node.args)
        node = back
    return node if getattr(node, "op", "") == "placeholder" else None


def operand_of(storage: Any, call: Any, place: int) -> Any:
    """The operand of a region without gradients that one of its results is, or the node within
    that gave it another shape; None of others."""
    if str(getattr(call.target, "_name", "")) != "wrap_with_set_grad_enabled":
        return None
    graph = getattr(call.graph.owning_module, call.args[1].target).graph
    result = _outputs(graph)[place]
    found = _from_outside(storage, result)
    places = [n for n in graph.nodes if n.op == "placeholder"]
    if found in places and _from_outside(storage, result, turned=False) is None:
        return result
    return call.args[2:][places.index(found)] if found in places else None


def _stopped(lowering: Any, value: Any) -> Any:
    """The value without its gradient; integers have none."""
    if isinstance(value, Node) and value.is_array and "float" in value.dtype:
        b = lowering.builder
        b.scope = value.scope
        made = b.call("mx.stop_gradient", value)
        if value.dims is not None:
            lowering.learn(made, value.dims)
        return made
    return value


def _autocast(lowering: Any, node: Any) -> None:
    """A region with or without autocast; each operator's result tells which dtype torch chose."""
    submodule, *operands = node.args[4:]
    graph_module = lowering.value(submodule)
    before, lowering.autocast = lowering.autocast, bool(node.args[2])
    try:
        lowering.storage.set(node, _inline(lowering, node, graph_module, operands))
    finally:
        lowering.autocast = before


def _checkpoint(lowering: Any, node: Any) -> None:
    submodule, *operands = node.args
    lowering.storage.set(node, _inline(lowering, node, lowering.value(submodule), operands))


def _used(made: Sequence[Function], operands: Sequence[Any]) -> list[Any]:
    """Operands that some of the functions read; the others' arguments go."""
    kept = []
    arrays = [i for i, value in enumerate(operands) if isinstance(value, Node) and value.is_array]
    for place, i in enumerate(arrays):
        if any(_reads(f.program, place) for f in made):
            kept.append((place, operands[i]))
    places = {place for place, _ in kept}
    for function in made:
        _keep(function, places, len(arrays))
    return [value for _, value in kept]


def _reads(program: Program, place: int) -> bool:
    wanted = program.inputs[place].node
    read = any(wanted is n for node in program.nodes for n in operands(node))
    return read or any(wanted is out for out in program.outputs)


def _keep(function: Function, places: set[int], count: int) -> None:
    inputs = function.program.inputs
    kept = tuple(v for i, v in enumerate(inputs) if i in places or i >= count)
    object.__setattr__(function.program, "inputs", kept)


def _define_all(lowering: Any, parts: Sequence[tuple[str, Any]], values: Any) -> list[Function]:
    """Functions of one call; none may take stored tensors of its own beside another. What is
    refused in any of them is told."""
    made, unmade = [], None
    for name, submodule in parts:
        try:
            function, stored = functions.define(lowering, name, lowering.value(submodule), values)
        except Unmade as problem:
            unmade = problem
            continue
        if stored:
            raise Refuse("a nested graph with large constants of its own")
        made.append(function)
    if unmade is not None:
        raise unmade
    return made


def _cond(lowering: Any, node: Any) -> None:
    predicate, true, false, operands = node.args
    values = [lowering.value(v) for v in operands]
    made = _define_all(lowering, [("when_true", true), ("when_false", false)], values)
    used = _used(made, values)
    truth = lowering.value(predicate)
    functions.call(
        lowering, node, "kit.control.cond", truth, made[0].symbol, made[1].symbol, tuple(used)
    )


def _while_loop(lowering: Any, node: Any) -> None:
    condition, body, carried, extra = node.args
    start, more = ([lowering.value(v) for v in part] for part in (carried, extra))
    parts = [("loop_condition", condition), ("loop_body", body)]
    made = _define_all(lowering, parts, [*start, *more])
    symbols = (made[0].symbol, made[1].symbol)
    functions.call(
        lowering, node, "kit.control.while_loop", *symbols, tuple(start), *_rest(tuple(more))
    )


def _rest(extra: tuple[Any, ...]) -> tuple[Any, ...]:
    return (extra,) if extra else ()


def _turns(op: str, name: str, carries: bool) -> Any:
    """A lowering of what applies a graph to each item of its operands' first axis."""

    def rule(lowering: Any, node: Any) -> None:
        submodule, *groups = node.args
        values = [[lowering.value(v) for v in group] for group in groups]
        start = values.pop(0) if carries else []
        items, extra = values
        b = lowering.builder
        firsts = [b.index(x, 0) for x in items]
        del b.nodes[len(b.nodes) - len(firsts) :]  # examples for the body only
        given = [*start, *(firsts * 2 if op.endswith("associative_scan") else firsts), *extra]
        (made,) = _define_all(lowering, [(name, submodule)], given)
        groups = ([tuple(start)] if carries else []) + [tuple(items)]
        functions.call(lowering, node, op, made.symbol, *groups, *_rest(tuple(extra)))

    return rule


_RULES = {
    "wrap_with_set_grad_enabled": _no_grad,
    "wrap_with_autocast": _autocast,
    "tag_activation_checkpoint": _checkpoint,
    "wrap_activation_checkpoint": _checkpoint,
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _turns("kit.control.scan", "scan_step", carries=True),
    "map_impl": _turns("kit.control.map_items", "map_item", carries=False),
    "associative_scan": _turns("kit.control.associative_scan", "combine", carries=False),
}
