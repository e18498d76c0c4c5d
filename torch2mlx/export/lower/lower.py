"""Lowering: every operator of the exported program becomes calls of MLX functions."""

from __future__ import annotations

from typing import Any

from torch2mlx.errors import TranslationError, UnsupportedOperatorError
from torch2mlx.export.capture.trace import Traced
from torch2mlx.export.ir.builder import Refuse
from torch2mlx.export.ir.dead import without_dead
from torch2mlx.export.ir.local_numbers import STORED
from torch2mlx.export.ir.nodes import Frame, Program
from torch2mlx.export.lower.lowering import Lowering
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.lower.program import inputs_of, steered, structure
from torch2mlx.export.lower.updates import write_back


def _outputs(state: Lowering, graph: Any) -> tuple[Any, ...]:
    """Values of the results; none where something they need was refused."""
    try:
        return state.run(graph, state.traced.program.graph_module)
    except Refuse as problem:
        state.refused = state.refused or [problem.at()]
        return ()


def _ran(traced: Traced, stored: Stored, apart: frozenset[str]) -> tuple[Lowering, Any, Any]:
    """The state after all nodes, values of the inputs and of the results."""
    state, graph = Lowering(traced, stored), traced.program.graph
    state.layers.never = apart
    try:
        inputs = inputs_of(state, graph)
    except Refuse as problem:
        raise TranslationError(str(problem)) from None
    state.layers.find(graph)
    return state, inputs, _outputs(state, graph)


def both_ways(state: Lowering) -> frozenset[str]:
    """Layers some calls of which are calls of a stock layer, and others are not: a class of the
    file is one or the other. Those that are known already are among them."""
    programs = [state.builder.nodes, *(f.program.nodes for f in state.builder.functions)]
    nodes = [node for nodes in programs for node in nodes]
    stock = {node.args[0].args[0] for node in nodes if node.op == "layer"}
    written = {
        frame.path.split("@")[0]
        for node in nodes
        if node.is_array and node.op not in (*STORED, "input", "layer")
        for frame in node.scope
    }
    mixed = {state.tree.canonical(path) for path in stock} & written
    return state.layers.never | mixed if mixed else frozenset()


def lower(traced: Traced, stored: Stored) -> Program:
    """The program in MLX calls.

    Raises UnsupportedOperatorError with every operator that cannot be lowered: module, line,
    reason; TranslationError for a tensor that would be trained and would become a constant.
    """
    stored.real = steered(traced.program.graph_module)
    while True:
        program = _lowered(traced, stored)
        lost = _lost(program, stored)
        if not lost:
            return program
        stored.keep(lost)


def _lost(program: Program, stored: Stored) -> set[str]:
    """Modules whose tensors the program reads in parts, where MLX's layer holds them as one."""
    programs = (without_dead(program), *(function.program for function in program.functions))
    try:
        return stored.lost(node for part in programs for node in part.nodes)
    except Refuse as problem:
        raise TranslationError(str(problem)) from None


def _lowered(traced: Traced, stored: Stored) -> Program:
    state, inputs, outputs = _ran(traced, stored, frozenset())
    apart = both_ways(state)
    while apart and not state.refused:
        stored.forget()
        state, inputs, outputs = _ran(traced, stored, apart)
        apart = both_ways(state)
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
    try:
        write_back(state, updates, results)
    except Refuse as problem:
        raise UnsupportedOperatorError((problem.at(),)) from problem
    functions = tuple(state.builder.functions)
    answer = structure(state.builder, traced, results)
    built = tuple(state.builder.nodes)
    return Program(built, inputs, answer, functions, baked=frozenset(state.builder.baked))
