"""`mx.stop_gradient` stands where a gradient could pass and should not, and nowhere else."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, operands
from torch2mlx.export.passes.rewrite import Rewriter


def without_idle_stops(program: Program) -> Program:
    """The program without stops of values that no weight and no floating point input leads to."""
    alive = _alive(program)

    def rule(r: Rewriter, node: Node) -> Any:
        idle = node.op == "mx.stop_gradient" and not _reached(r.old[node], alive)
        return node.args[0] if idle else None

    return Rewriter(program).run(rule)


def with_index_stops(program: Program) -> Program:
    """Integers that come from floats (argmax, a cast) and pick items get a stop: MLX asks for their
    gradient, which torch has none of, and raises."""
    alive = _alive(program)
    counted: dict[Node, frozenset[Node]] = {}  # integer arrays -> where they came from floats
    needed: set[Node] = set()
    for node in program.nodes:
        reads = [read for read in operands(node) if read.is_array or read.op == "item"]
        inherited = frozenset(n for read in reads for n in counted.get(read, ()))
        if "int" in node.dtype and node.op != "mx.stop_gradient":
            made = any(read in alive for read in reads)
            counted[node] = frozenset({node}) if made else inherited
        elif "int" not in node.dtype and node.dtype != "bool" and inherited:
            needed |= inherited

    def rule(r: Rewriter, node: Node) -> Any:
        if r.old[node] not in needed:
            return None
        r.builder.nodes.append(node)
        return r.builder.call("mx.stop_gradient", node)

    return Rewriter(program).run(rule) if needed else program


def _alive(program: Program) -> set[Node]:
    """Nodes that a gradient can come to: floats made of weights or of inputs."""
    alive: set[Node] = set()
    for node in program.nodes:
        source = node.op in ("param", "input") and "float" in node.dtype
        source |= node.op == "layer"  # weights of its own
        number = not node.is_array and not isinstance(node.value, (tuple, list))
        if source or (not number and node.op != "mx.stop_gradient" and _reached(node, alive)):
            alive.add(node)
    return alive


def _reached(node: Node, alive: set[Node]) -> bool:
    if node.is_array and "float" not in node.dtype and "complex" not in node.dtype:
        return False
    return any(read in alive for read in operands(node))
