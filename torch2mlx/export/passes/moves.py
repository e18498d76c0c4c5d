"""Transposes of weights that move axes of length 1 only are reshapes.

Weights have one shape for ever. An array that comes in may have another one than the examples: a
reshape would take three channels for a batch three times as large, where a transpose keeps every
length in its axis, and the layer behind it refuses what torch's refuses.
"""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, operands
from torch2mlx.export.passes.rewrite import Rewriter


def without_idle_moves(program: Program) -> Program:
    """The program with reshapes where a transpose moved no data."""
    fixed: set[Node] = set()  # what is made of weights alone has one shape
    for node in program.nodes:
        reads = list(operands(node))
        if node.op in ("param", "constant") or (reads and all(n in fixed for n in reads)):
            fixed.add(node)

    def rule(r: Rewriter, node: Node) -> Any:
        if r.old[node] not in fixed:
            return None
        x = node.args[0]
        if node.op == "method.transpose" and _idle(node):
            return r.builder.call("method.reshape", x, *(x.shape[axis] for axis in node.args[1:]))
        if node.op == "method.reshape" and x.op == "method.transpose" and _idle(x):
            return r.builder.call("method.reshape", x.args[0], *node.args[1:])
        return None

    return Rewriter(program).run(rule)


def _idle(node: Node) -> bool:
    """Whether a transpose moves axes of length 1 only."""
    shape, axes = node.args[0].shape, node.args[1:]
    long = [axis for axis in axes if shape[axis] != 1]
    return long == sorted(long) and len(long) < len(axes)
