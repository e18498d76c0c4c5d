"""Experts as layers: a stored array that rows are multiplied with, each with the matrix of its
expert, is the weight of a layer of the kit, which `nn.quantize` takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch2mlx.export.ir.dead import tuple_of
from torch2mlx.export.ir.nodes import Node, Program, is_call, leaves, operands
from torch2mlx.export.passes.rewrite import Rewriter

_PRODUCT = "kit.moe.sorted_mm"


def with_expert_layers(
    program: Program, tied: Mapping[str, str]
) -> tuple[Program, dict[str, bool]]:
    """The program, and the stored arrays that are layers in it: by their names, whether a row is
    multiplied with the array as it is, and not with its last two axes turned.

    An array that anything else reads, that is written to, or that is `tied` to another stays an
    array.
    """
    layers = _layers(program)
    for name in (*tied, *tied.values()):
        layers.pop(name, None)

    def rule(r: Rewriter, node: Node) -> Any:
        if node.op != _PRODUCT:
            return None
        x, weight, experts = node.args
        held = _held(weight)
        if held is None or held.args[0] not in layers:
            return None
        known = {"ordered": True}
        return r.builder.add(Node("chosen", (held, x, experts), known, node.value, node.dims))

    return Rewriter(program).run(rule), layers


def _layers(program: Program) -> dict[str, bool]:
    """Stored arrays that are nothing but the matrices of such products."""
    uses: dict[str, set[bool | None]] = {}
    for name, use in _uses(program):
        uses.setdefault(name, set()).add(use)
    return {name: use for name, (use, *more) in uses.items() if use is not None and not more}


def _uses(program: Program) -> Iterator[tuple[str, bool | None]]:
    """How stored arrays are read: as they are or turned in a product, or in another way (None)."""
    for part in (program, *(function.program for function in program.functions)):
        for node in part.nodes:
            if node.op == "update":
                yield node.args[0], None
            product = is_call(node, _PRODUCT)
            for read in operands(node):
                held = _held(read)
                if held is not None and not (read is held and _held(node) is held):
                    yield held.args[0], (read is held) if product and read is node.args[1] else None
        for read in leaves(tuple_of(part.outputs)):
            held = _held(read)
            if held is not None:
                yield held.args[0], None


def _held(weight: Any) -> Node | None:
    """The stored array that a matrix of a product is, turned or not."""
    if is_call(weight, "method.transpose") and tuple(weight.args[1:]) == (0, 2, 1):
        weight = weight.args[0]
    return weight if is_call(weight, "param") else None
