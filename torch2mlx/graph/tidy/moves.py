"""Transposes that move axes of length 1 only are reshapes: nothing is moved in memory."""

from __future__ import annotations

from typing import Any

from torch2mlx.graph.ir import Node, Program, operands
from torch2mlx.graph.tidy.rewrite import Rewriter


def without_idle_moves(program: Program) -> Program:
    """The program with reshapes where a transpose moved no data."""
    fixed: set[Node] = set()  # what is made of weights alone has one shape
    for node in program.nodes:
        reads = list(operands(node))
        if node.op in ("param", "constant") or (reads and all(n in fixed for n in reads)):
            fixed.add(node)

    def rule(r: Rewriter, node: Node) -> Any:
        x = node.args[0] if node.args else None
        if node.op == "method.transpose":
            return _reshaped(r, node, x.shape if r.old[node] in fixed else x.dims)
        if node.op == "method.reshape" and x.op == "method.transpose" and _idle(x):
            return r.builder.call("method.reshape", x.args[0], *node.args[1:])
        return None

    return Rewriter(program).run(rule)


def _idle(node: Node) -> bool:
    """Whether a transpose moves axes of length 1 only, whatever the other lengths are."""
    dims, axes = node.args[0].dims, node.args[1:]
    long = [axis for axis in axes if dims[axis] != 1] if dims is not None else [1, 0]
    return long == sorted(long)


def _reshaped(r: Rewriter, node: Node, dims: tuple[Any, ...] | None) -> Any:
    x, axes = node.args[0], node.args[1:]
    if dims is None:
        return None  # a length of the examples may be another one next time
    long = [axis for axis in axes if dims[axis] != 1]
    shape = [dims[axis] for axis in axes]
    unknown = [i for i, size in enumerate(shape) if not isinstance(size, int)]
    if long != sorted(long) or len(long) == len(axes) or len(unknown) > 1:
        return None
    for i in unknown:
        shape[i] = -1
    return r.builder.call("method.reshape", x, *shape)
