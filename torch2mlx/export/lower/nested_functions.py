"""Nested graphs that the file defines as functions: branches, bodies of loops, own gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch2mlx.export.ir.arguments import leaves_of
from torch2mlx.export.ir.builder import Refuse, Unmade
from torch2mlx.export.ir.local_numbers import STORED
from torch2mlx.export.ir.nodes import Frame, Input, Node, Program, Symbol, learn, leaves
from torch2mlx.export.ir.outline import Outliner
from torch2mlx.export.ir.provenance import hints

_ROOT = (Frame("", "Function"),)


@dataclass(frozen=True)
class Function:
    """A function of the file: its name, and its body as a program of its own."""

    name: str
    program: Program

    @cached_property
    def outline(self) -> Any:
        """See `outline_of`."""
        return outline_of(self.program)

    @property
    def symbol(self) -> Symbol:
        """How a call names it."""
        return Symbol(self.name)


def define(
    lowering: Any, name: str, graph_module: Any, values: Sequence[Any], fixed: int = 0
) -> tuple[Function, list[Node]]:
    """Lowers a nested graph as a function of its placeholders.

    `values` has an example node or number for each placeholder; the first `fixed` are constants,
    which the function has inside. Answers with the function and the
    stored tensors that it takes as further arguments.
    """
    b = lowering.builder
    outside, b.nodes = b.nodes, []
    scope, around = b.scope, lowering.around
    lowering.around = scope
    try:
        inputs = _arguments(lowering, graph_module.graph, values, fixed)
        outputs = lowering.run(graph_module.graph, graph_module)
        nodes = b.nodes
    finally:
        b.nodes, b.scope, lowering.around = outside, scope, around
    if lowering.refused:
        raise Unmade("depends on an operator that could not be lowered")
    if any(_follows_a_mode(node) for node in nodes):
        raise Refuse(
            "a branch or the body of a loop that follows the mode of its module, as dropout does "
            "in training: put that before or behind it, or translate the model in evaluation"
        )
    more, stored = _stored(lowering, nodes)
    for node in nodes:
        learn(node, scope=_ROOT)
    program = Program(tuple(nodes), (*inputs, *more), tuple(outputs))
    alike = (f for f in b.functions if f.outline == outline_of(program))
    made = next(alike, None)
    if made is None:
        made = Function(lowering.unique(name), program)
        b.functions.append(made)
    return made, stored


def _follows_a_mode(node: Node) -> bool:
    symbols = leaves_of(Symbol, (node.args, tuple(node.kwargs.values())))
    return any(symbol.text == "self.training" for symbol in symbols)


def outline_of(program: Program) -> Any:
    """What functions of the file have in common that are the same but for names; passes may make
    other statements of other lengths."""
    inputs = [i.node for i in program.inputs if i.node is not None]
    outliner = Outliner(inputs, lambda node: str(node.args), lambda call: call)
    items = [node for node in program.nodes if node.op not in (*STORED, "input")]
    free = [tuple(isinstance(dim, str) for dim in node.dims or ()) for node in inputs]
    lengths = [(node.dtype, tuple(map(int, node.shape))) for node in inputs]
    plain = [None if isinstance(value, Node) else repr(value) for value in program.outputs]
    return outliner.outline(items, leaves(program.outputs)).exact(), lengths, free, plain


def _arguments(lowering: Any, graph: Any, values: Sequence[Any], fixed: int) -> list[Input]:
    inputs: list[Input] = []
    places = [node for node in graph.nodes if node.op == "placeholder"]
    for i, (place, value) in enumerate(zip(places, values, strict=True)):
        name = _plain(place.name, len(inputs))
        if i < fixed:
            again = Node("constant", value.args, {}, value.value, value.dims)
            lowering.storage.set(place, lowering.builder.add(again))
        elif isinstance(value, Node) and value.is_array:
            held = value.value
            made = Node("input", (name,), {}, held, value.dims, _ROOT, name, "", place.name)
            lowering.builder.nodes.append(made)
            lowering.storage.set(place, made)
            inputs.append(Input((name,), made))
        elif isinstance(value, Node):
            raise Refuse("a nested graph that takes a length which is not fixed")
        else:
            lowering.storage.set(place, value)
    return inputs


def _plain(name: str, place: int) -> str:
    """A placeholder's name without torch.export's prefixes; by its place where it has none."""
    if name.startswith(("arg", "tensors_")) and name[-1].isdigit():
        return f"x{place + 1}"
    for prefix in ("p_", "b_", "c_"):
        name = name.removeprefix(prefix)
    return name


def _stored(lowering: Any, nodes: list[Node]) -> tuple[list[Input], list[Node]]:
    """Constants inside that are too large to print become arguments."""
    more, stored = [], []
    for node in nodes:
        if node.op == "param" or (
            node.op == "constant" and not lowering.stored.printed(node.args[0])
        ):
            stored.append(lowering.builder.add(Node(node.op, node.args, {}, node.value, node.dims)))
            name = str(node.args[0]).rsplit(".", 1)[-1].lstrip("_")
            learn(node, op="input", args=((name,),), name=name)
            more.append(Input((name,), node))
    return more, stored


def call(lowering: Any, node: Any, op: str, *args: Any) -> None:
    """A call of a kit function that gives several results, with the values that torch says."""
    import mlx.core as mx

    from torch2mlx.export.ir.builder import mx_dtype

    expected = node.meta.get("val")
    expected = expected if isinstance(expected, (tuple, list)) else (expected,)
    values, dims = [], []
    for one in expected:
        shape, symbols = hints(one)
        if shape is None:
            raise Refuse("a result whose shape the data decides")
        name = lowering.stored.dtype(one).replace("complex128", "complex64")
        values.append(mx.zeros(shape, getattr(mx, mx_dtype(name).text.removeprefix("mx."))))
        dims.append(symbols)
    b = lowering.builder
    made = b.add(Node(op, args, {}, values))
    parts = b.items(made)
    for part, symbols in zip(parts, dims, strict=True):
        lowering.learn(part, symbols)
    lowering.storage.set(node, parts)
