"""Lowering: every operator of the exported program becomes calls of MLX functions."""

from __future__ import annotations

from typing import Any

from torch2mlx.errors import UnsupportedOperatorError
from torch2mlx.graph.builder import Refuse
from torch2mlx.graph.ir import Frame, Program
from torch2mlx.graph.lowering import Lowering
from torch2mlx.graph.ops.registry import check_users
from torch2mlx.graph.program import inputs_of, steered, structure
from torch2mlx.graph.stored import Stored
from torch2mlx.graph.trace import Traced
from torch2mlx.graph.updates import write_back


def _outputs(state: Lowering, graph: Any) -> tuple[Any, ...]:
    """Values of the results; none where something they need was refused."""
    try:
        return state.run(graph, state.traced.program.graph_module)
    except Refuse as problem:
        state.refused = state.refused or [str(problem)]
        return ()


def lower(traced: Traced, stored: Stored) -> Program:
    """The program in MLX calls.

    Raises UnsupportedOperatorError with every operator that cannot be lowered: module, line,
    reason.
    """
    check_users()
    state = Lowering(traced, stored)
    graph = traced.program.graph
    stored.real = steered(traced.program.graph_module)
    inputs = inputs_of(state, graph)
    state.layers.find(graph)
    outputs = _outputs(state, graph)
    if state.refused:
        raise UnsupportedOperatorError(tuple(state.refused))
    state.builder.scope = (Frame("", type(traced.model).__name__),)
    signature = traced.program.graph_signature
    results, updates = [], []
    for spec, value in zip(signature.output_specs, outputs, strict=True):
        if spec.kind.name in ("USER_OUTPUT",):
            results.append(value)
    for spec in signature.input_specs:
        place = state.named.get(getattr(spec.arg, "name", ""))
        if spec.target and place in state.storage and state.storage.changed(place):
            updates.append((spec.target, state.storage.get(place)))
    write_back(state, updates, results)
    functions = tuple(state.builder.functions)
    return Program(tuple(state.builder.nodes), inputs, structure(traced, results), functions)
