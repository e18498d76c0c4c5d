"""torch.autograd.Function: its forward and its backward, each exported as a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch2mlx.export.capture.autograd_functions import NAMESPACE, Applied, Context
from torch2mlx.export.ir.builder import Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.provenance import hints
from torch2mlx.export.lower import nested_functions as functions


def is_custom(target: Any) -> bool:
    """Whether an operator stands for an autograd.Function."""
    return getattr(target, "namespace", "") == NAMESPACE


def lower(lowering: Any, node: Any, known: Mapping[str, Applied]) -> None:
    """The call of a Function: two functions of the file, one for each direction."""
    name = node.target._schema.name.rpartition("::")[2]
    applied = known[name]
    values = [lowering.value(a) for a in node.args]
    examples = [_example(a) for a in node.args]
    results = (
        node.meta["val"] if isinstance(node.meta["val"], (tuple, list)) else [node.meta["val"]]
    )
    cotangents = [(_ones(shape, r.dtype), axes) for r in results for shape, axes in (_sizes(r),)]
    words = name.rpartition("_")[0]
    forward = _traced(_module(applied, backward=False), examples)
    backward = _traced(_module(applied, backward=True), [*examples, *cotangents])
    made = []
    for part, program, given in (
        ("forward", forward, values),
        ("backward", backward, [*values, *(_like(lowering, r) for r in results)]),
    ):
        constants = _constants(lowering, program)
        module = program.graph_module
        function, stored = functions.define(
            lowering, f"{words}_{part}", module, [*constants, *given], len(constants)
        )
        if stored:
            raise Refuse("an autograd.Function with large constants")
        made.append(function.symbol)
    functions.call(lowering, node, "kit.control.with_backward", *made, *values)
    if applied.results == 1 and not isinstance(node.meta["val"], (tuple, list)):
        lowering.storage.set(node, lowering.storage.get(node)[0])


def _module(applied: Applied, backward: bool) -> Any:
    import torch

    class Forward(torch.nn.Module):
        def forward(self, *tensors: Any) -> Any:
            return applied.run(tensors, Context(len(applied.arguments)))

    class Backward(torch.nn.Module):
        def forward(self, *tensors: Any) -> Any:
            count, context = len(applied.tensors), Context(len(applied.arguments))
            applied.run(tensors[:count], context)
            found = applied.kind.backward(context, *tensors[count:])
            found = found if isinstance(found, tuple) else (found,)
            pairs = zip(applied.tensors, tensors, strict=False)
            return tuple(torch.zeros_like(x) if found[i] is None else found[i] for i, x in pairs)

    return Backward() if backward else Forward()


def _sizes(value: Any) -> tuple[tuple[int, ...], dict[int, Any]]:
    shape, dims = hints(value)
    if shape is None or dims is None:
        raise Refuse("an autograd.Function on shapes that the data decides")
    return shape, {i: d for i, d in enumerate(dims) if not isinstance(d, int)}


def _ones(shape: tuple[int, ...], dtype: Any) -> Any:
    import torch

    return torch.ones(shape, dtype=dtype)


def _example(argument: Any) -> tuple[Any, dict[int, Any]]:
    value = argument.meta["val"]
    shape, axes = _sizes(value)
    return _ones(shape, value.dtype), axes


def _traced(module: Any, examples: Sequence[tuple[Any, dict[int, Any]]]) -> Any:
    import torch

    axes = tuple({i: torch.export.Dim.AUTO for i in free} for _, free in examples)
    given = tuple(value for value, _ in examples)
    try:
        with torch.no_grad():
            return torch.export.export(module, given, dynamic_shapes=(axes,), strict=False)
    except Exception as problem:
        raise Refuse(f"an autograd.Function that cannot be traced: {problem}") from problem


def _constants(lowering: Any, program: Any) -> list[Any]:
    kept = []
    for spec in program.graph_signature.input_specs:
        if spec.kind.name == "CONSTANT_TENSOR":
            value = program.constants[spec.target]
            kept.append(lowering.stored.constant(lowering.builder, f"constant_{id(value)}", value))
    return kept


def _like(lowering: Any, value: Any) -> Node:
    """An example of a cotangent."""
    import mlx.core as mx

    shape, dims = hints(value)
    assert shape is not None
    dtype = getattr(mx, str(value.dtype).rsplit(".", 1)[-1])
    return Node("input", ("cotangent",), {}, mx.zeros(shape, dtype), dims)
