"""Nodes that nothing reads go."""

from __future__ import annotations

from dataclasses import replace

from torch2mlx.export.ir.nodes import STATEMENTS, Node, Program, leaves, operands

#: What is done for more than its result.
DOING = (*STATEMENTS, "store", "method.update_and_fetch")


def without_dead(program: Program) -> Program:
    """The program without what leads to no result."""
    wanted: set[Node] = set(leaves(tuple_of(program.outputs)))
    wanted.update(i.node for i in program.inputs if i.node is not None)
    kept = []
    for node in reversed(program.nodes):
        if node in wanted or node.op in DOING:
            wanted.update(operands(node))
            kept.append(node)
    return replace(program, nodes=tuple(reversed(kept)))


def tuple_of(outputs: object) -> object:
    """A structure whose nodes `leaves` finds."""
    return tuple(outputs.values()) if isinstance(outputs, dict) else outputs
