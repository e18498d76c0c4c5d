"""The two ends of lowering: arguments of the model, and the structure of its answer."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.capture import ctc, packing
from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Frame, Input, Node, learn
from torch2mlx.export.ir.packed import whole
from torch2mlx.export.ir.provenance import hints

#: Operators whose results' shapes, or numbers, depend on data.
_DATA = ("item", "_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount")
_BY_DATA = (*(f"aten::{name}" for name in _DATA), f"{packing.NAMESPACE}::", f"{ctc.NAMESPACE}::")


def steered(module: Any) -> bool:
    """Whether numbers in arrays steer a program: its shapes are then known from values alone."""
    for part in module.modules():
        for node in getattr(getattr(part, "graph", None), "nodes", ()):
            if str(getattr(node.target, "_schema", "")).startswith(_BY_DATA):
                return True
            value = node.meta.get("val")
            if hasattr(value, "shape") and hints(value)[0] is None:
                return True
    return False


def inputs_of(state: Any, graph: Any) -> tuple[Input, ...]:
    """Values for all placeholders: parameters, constants, arguments of the model."""
    traced, inputs = state.traced, []
    specs = traced.program.graph_signature.input_specs
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    paths = iter(traced.inputs)
    state.builder.scope = (Frame("", type(traced.model).__name__),)
    for spec, node in zip(specs, placeholders, strict=True):
        if spec.kind.name == "USER_INPUT":
            path = next(paths)
            inputs.append(_argument(state, node, path))
        else:
            value = state.stored.placeholder(state.builder, spec, traced.program)
            state.storage.set(node, value)
    return tuple(inputs)


def _argument(state: Any, node: Any, path: tuple[Any, ...]) -> Input:
    import mlx.core as mx

    value = node.meta.get("val")
    if not hasattr(value, "dtype"):
        state.storage.set(node, value)
        return Input(path, None, value)
    shape, dims = hints(value)
    name = str(value.dtype).rsplit(".", 1)[-1]
    dtype = getattr(mx, {"bool": "bool_", "complex128": "complex64"}.get(name, name))
    assert shape is not None
    held = mx.zeros(shape, dtype)
    if state.stored.real:
        held = state.stored.value(state.traced.examples[path])
    made = Node("input", (path,), {}, held, dims, state.builder.scope)
    learn(made, name=str(path[0]), origin=node.name)
    state.builder.nodes.append(made)
    state.storage.set(node, made)
    return Input(path, made)


def structure(b: Builder, traced: Any, results: list[Any]) -> Any:
    """Results in the structure the model answers with; dataclass-like ones become dicts, and
    packed sequences the kit's."""
    found = iter(results)

    def build(spec: Any) -> Any:
        if spec.is_leaf():
            return next(found)
        children = [build(child) for child in spec.children()]
        context = spec.context
        if getattr(context, "__module__", "") == "torch.nn.utils.rnn":
            return whole(b, children)
        if isinstance(context, (list, tuple)) and len(context) == 2 and spec.type is not dict:
            context = context[0] if isinstance(context[0], (list, tuple)) else context
        keys = context if isinstance(context, (list, tuple)) else ()
        if len(keys) == len(children) and all(isinstance(key, (str, int)) for key in keys):
            return dict(zip(keys, children, strict=True)) if keys or spec.type is dict else ()
        return children if spec.type is list else tuple(children)

    return build(traced.program.call_spec.out_spec)
