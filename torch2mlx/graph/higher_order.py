"""Operators that run a graph of their own: regions without gradients, autocast, checkpoints,
cond."""

from __future__ import annotations

from typing import Any

from torch2mlx.graph.builder import Refuse
from torch2mlx.graph.ir import Node


def lower(lowering: Any, node: Any, name: str) -> None:
    """Lowers a higher-order operator by its name."""
    rule = _RULES.get(name)
    if rule is None:
        raise Refuse("a higher-order operator that has no lowering")
    rule(lowering, node)


def _inline(lowering: Any, node: Any, graph_module: Any, operands: Any) -> tuple[Any, ...]:
    """Lowers a nested graph where it is called."""
    places = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
    for place, operand in zip(places, operands, strict=True):
        value = lowering.value(operand)
        lowering.storage.set(place, value)
        if hasattr(operand, "users") and lowering.layers.mutating and isinstance(value, Node):
            lowering.same(place, operand)
    lowering.layers.find(graph_module.graph)
    return lowering.run(graph_module.graph, graph_module)


def _no_grad(lowering: Any, node: Any) -> None:
    enabled, submodule, *operands = node.args
    graph_module = lowering.value(submodule)
    results = _inline(lowering, node, graph_module, operands)
    if not enabled:
        results = tuple(_stopped(lowering, r) for r in results)
    lowering.storage.set(node, results)


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
    submodule, *operands = node.args[4:]
    graph_module = lowering.value(submodule)
    enabled = node.args[2]
    if enabled:
        raise Refuse("autocast that is switched on: dtypes would be torch's choice")
    lowering.storage.set(node, _inline(lowering, node, graph_module, operands))


def _checkpoint(lowering: Any, node: Any) -> None:
    submodule, *operands = node.args
    lowering.storage.set(node, _inline(lowering, node, lowering.value(submodule), operands))


_RULES = {
    "wrap_with_set_grad_enabled": _no_grad,
    "wrap_with_autocast": _autocast,
    "tag_activation_checkpoint": _checkpoint,
    "wrap_activation_checkpoint": _checkpoint,
}
