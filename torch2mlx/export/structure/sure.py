"""Whether MLX refuses other lengths of an axis by itself, so that a file needs no check of it: a
matrix product or a convolution reads the axis, as it came, against weights of one width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, abstract, operands, replace

#: Calls that leave all lengths as they are.
_ALIKE = ("method.astype", "mx.stop_gradient", "mx.contiguous")
_PRODUCTS = ("mx.addmm", "operator.matmul", "mx.matmul", "mx.conv1d", "mx.conv2d", "mx.conv3d")


#: Arguments by their paths, and axes of them as the program numbers these.
Refused = frozenset[tuple[tuple[Any, ...], int]]


def refused(program: Program) -> Refused:
    """The axes of a program's arguments of which MLX itself refuses other lengths."""
    readers: dict[Node, list[Node]] = {}
    for node in program.nodes:
        for read in operands(node):
            readers.setdefault(read, []).append(node)
    return frozenset(
        (given.path, axis)
        for given in program.inputs
        if given.node is not None and given.node.is_array
        for axis in range(given.node.ndim)
        if refuses(given.node, axis, readers)
    )


def refuses(node: Node, axis: int, readers: Mapping[Node, Sequence[Node]]) -> bool:
    """Whether some call that is always made raises an error for other lengths of the axis."""
    return any(_refuses(user, node, axis, readers) for user in readers.get(node, ()))


def _refuses(user: Node, node: Node, axis: int, readers: Mapping[Node, Sequence[Node]]) -> bool:
    if user.op == "method.transpose" and user.args[0] is node:
        return refuses(user, tuple(user.args[1:]).index(axis), readers)
    if user.op in _ALIKE and user.args[0] is node:
        return refuses(user, axis, readers)
    if user.op == "layer":
        return axis == node.ndim - 1 and user.args[1] is node and user.args[0].value == "product"
    if user.op not in _PRODUCTS or not all(n is node or _stored(n) for n in operands(user)):
        return False
    return all(_fails(user, node, axis, n) for n in _others(node, axis))


def _stored(node: Node) -> bool:
    """Whether a value is made of weights alone, whose sizes never vary."""
    if node.op in ("param", "constant"):
        return True
    return node.op == "method.transpose" and _stored(node.args[0])


def _others(node: Node, axis: int) -> list[int]:
    length = node.shape[axis]
    return [n for n in (1, length - 1, length + 1, 2 * length) if n > 0 and n != length]


def _fails(user: Node, node: Node, axis: int, length: int) -> bool:
    """Whether a call raises an error when one of its arguments has another length."""
    import mlx.core as mx

    shape = [length if i == axis else n for i, n in enumerate(node.shape)]
    other = Node("input", value=mx.zeros(shape, node.value.dtype))
    args, kwargs = (
        replace(part, lambda n: other if n is node else n) for part in (user.args, user.kwargs)
    )
    try:
        abstract(user.op, args, kwargs)
    except (ValueError, RuntimeError):
        return True
    return False
