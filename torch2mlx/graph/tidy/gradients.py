"""`mx.stop_gradient` stays only where a gradient could pass."""

from __future__ import annotations

from typing import Any

from torch2mlx.graph.ir import Node, Program, operands
from torch2mlx.graph.tidy.rewrite import Rewriter


def without_idle_stops(program: Program) -> Program:
    """The program without stops of values that no weight and no floating point input leads to."""
    alive: set[Node] = set()
    for node in program.nodes:
        source = node.op in ("param", "input") and "float" in node.dtype
        number = not node.is_array and not isinstance(node.value, (tuple, list))
        if source or (not number and node.op != "mx.stop_gradient" and _reached(node, alive)):
            alive.add(node)

    def rule(r: Rewriter, node: Node) -> Any:
        idle = node.op == "mx.stop_gradient" and not _reached(r.old[node], alive)
        return node.args[0] if idle else None

    return Rewriter(program).run(rule)


def _reached(node: Node, alive: set[Node]) -> bool:
    if node.is_array and "float" not in node.dtype and "complex" not in node.dtype:
        return False
    return any(read in alive for read in operands(node))
