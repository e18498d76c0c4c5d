"""The two ends of a model with channels last: arguments and results that would be turned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch2mlx.export.ir.nodes import (
    Input,
    Node,
    Program,
    first_order,
    last_order,
    learn,
    leaves,
    operands,
)
from torch2mlx.export.passes.layout import channels_first, channels_last
from torch2mlx.export.passes.rewrite import Rewriter, with_outputs


def with_last_ends(program: Program) -> Program:
    """The program for arguments and results with channels last.

    An argument is one that a transpose brings to channels last; a result is one that a transpose
    brings back. What else reads such an argument reads it turned, as far as that cannot be moved
    on.
    """
    given = {i.node: _turned(i.node) for i in program.inputs if _is_turned(program, i.node)}
    found = Rewriter(program).run(lambda r, node: _rule(r, node, given))
    inputs = tuple(_input(i, given) for i in program.inputs)
    found = channels_last(replace(found, inputs=inputs))
    results = tuple(leaves(found.outputs))
    turned = tuple(place for place, node in enumerate(results) if channels_first(node) is not None)
    outputs = with_outputs(found.outputs, _before_turn)
    return replace(found, outputs=outputs, last_outputs=turned)


def _is_turned(program: Program, node: Node | None) -> bool:
    """Whether some call brings an argument from channels first to channels last."""
    if node is None or not node.is_array or node.ndim < 3:
        return False
    wanted = last_order(node.ndim)
    return any(
        n.op == "method.transpose" and n.args[0] is node and tuple(n.args[1:]) == wanted
        for n in program.nodes
        if node in operands(n)
    )


def _turned(node: Node | None) -> Node:
    assert node is not None
    order = last_order(node.ndim)
    dims = None if node.dims is None else tuple(node.dims[axis] for axis in order)
    made = Node("input", node.args, {}, node.value.transpose(*order), dims, node.scope)
    learn(made, name=node.name, origin=node.origin)
    return made


def _rule(r: Rewriter, node: Node, given: dict[Node | None, Node]) -> Any:
    if node in given:
        r.builder.nodes.append(given[node])
        back = first_order(node.ndim)
        return r.builder.transpose(given[node], back)
    if node.op == "shape":
        order = channels_first(node.args[0])
        if order is not None:
            return r.builder.call("shape", node.args[0].args[0], order[node.args[1]])
    return None


def _input(one: Input, given: dict[Node | None, Node]) -> Input:
    if one.node not in given:
        return one
    return replace(one, node=given[one.node], channels_last=True)


def _before_turn(node: Node) -> Node:
    return node if channels_first(node) is None else node.args[0]
