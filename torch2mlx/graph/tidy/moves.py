"""Transposes that move axes of length 1 only are reshapes: nothing is moved in memory."""

from __future__ import annotations

from typing import Any

from torch2mlx.graph.ir import Node, Program
from torch2mlx.graph.tidy.rewrite import Rewriter


def without_idle_moves(program: Program) -> Program:
    """The program with reshapes where a transpose moved no data."""
    return Rewriter(program).run(_rule)


def _rule(r: Rewriter, node: Node) -> Any:
    if node.op != "method.transpose":
        return None
    x, axes = node.args[0], node.args[1:]
    dims = x.dims
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
