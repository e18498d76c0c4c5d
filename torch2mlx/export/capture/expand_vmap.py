"""torch.vmap in an exported program becomes the batched operators that it stands for.

torch.export keeps what ran inside of a vmap as operators on single items, between markers. Such a
region is run once more, by torch itself on tensors without values, and what its batching rules do
is recorded in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from torch2mlx.errors import ExportError

_START, _END = "_vmap_increment_nesting", "_vmap_decrement_nesting"
_MARKERS = "torch._functorch.predispatch"
_IDLE = "lazy_load_decompositions"
#: What tells where in the source a node comes from.
_ORIGIN = ("nn_module_stack", "stack_trace", "source_fn_stack")


def without_vmap(program: Any) -> None:
    """Replaces the regions of all graphs of a program, in place.

    Raises ExportError when torch cannot run a region.
    """
    import torch

    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            _in_graph(module)


def _refuse_others(graph: Any) -> None:
    """torch.export writes the values that this call's inputs have into what torch.func.grad,
    jvp and their kin leave: the program would be right for them alone."""
    for node in graph.nodes:
        name = _name(node)
        known = "_batch_dim" in name or name in (_START, _END, _IDLE)
        if not known and getattr(node.target, "__module__", "") == _MARKERS:
            raise ExportError(
                "torch.func's grad, vjp, jvp and jacobians cannot be exported (torch.vmap "
                f"can): {node.meta.get('stack_trace', '').strip() or name}; give the model "
                "the derivative as a formula, or port its source"
            )


def _in_graph(module: Any) -> None:
    graph, changed = module.graph, False
    _refuse_others(graph)
    while region := _first_region(graph):
        try:
            _replace(module, region)
        except Exception as problem:  # whatever a batching rule of torch raises
            raise ExportError(f"torch.vmap: {type(problem).__name__}: {problem}") from problem
        changed = True
    if changed:
        for node in list(graph.nodes):
            if _name(node) == _IDLE:
                graph.erase_node(node)
        module.recompile()


def _name(node: Any) -> str:
    return str(getattr(node.target, "__name__", "")) if node.op == "call_function" else ""


def _first_region(graph: Any) -> list[Any]:
    """Nodes from the first marker to the one that closes it."""
    found: list[Any] = []
    depth = 0
    for node in graph.nodes:
        depth += (_name(node) == _START) - (_name(node) == _END)
        if depth or found:
            found.append(node)
        if found and not depth:
            return found
    return []


def _replace(module: Any, region: Sequence[Any]) -> None:
    inside = set(region)
    inputs = list(dict.fromkeys(i for n in region for i in n.all_input_nodes if i not in inside))
    results = [n for n in region if any(user not in inside for user in n.users)]
    recorded = _recorded(module, region, inputs, results)
    graph, origin = module.graph, _origin(region)
    known = dict(zip(recorded.graph.find_nodes(op="placeholder"), inputs, strict=True))
    with graph.inserting_before(region[0]):
        for node in recorded.graph.nodes:
            if node.op == "get_attr":  # a constant of the region
                name = f"_vmap_{node.target}"
                setattr(module, name, getattr(recorded, node.target))
                known[node] = graph.get_attr(name)
            elif node.op not in ("placeholder", "output"):
                known[node] = graph.node_copy(node, lambda n: known[n])
                known[node].meta = {**origin, "val": node.meta.get("val")}
    given = recorded.graph.output_node().args[0]
    for old, new in zip(results, given, strict=True):
        old.replace_all_uses_with(known[new], delete_user_cb=lambda user: user not in inside)
    for node in reversed(region):
        graph.erase_node(node)


def _origin(region: Sequence[Any]) -> dict[str, Any]:
    """Where the region stands, for messages and names: as its first operator says."""
    node = next((n for n in region if "val" in n.meta), region[0])
    return {key: node.meta[key] for key in _ORIGIN if key in node.meta}


def _recorded(module: Any, region: Any, inputs: Any, results: Any) -> Any:
    """The operators that torch runs for a region, as a graph module from inputs to results."""
    import torch
    from torch._dispatch.python import enable_python_dispatcher
    from torch._guards import detect_fake_mode
    from torch.fx.experimental.proxy_tensor import make_fx

    alone = torch.fx.Graph()
    known = {node: alone.placeholder(node.name) for node in inputs}
    for node in region:
        known[node] = alone.node_copy(node, lambda n: known[n])
    alone.output(tuple(known[node] for node in results))
    values = [node.meta["val"] for node in inputs]
    mode = detect_fake_mode(values) or detect_fake_mode([n.meta.get("val") for n in region])
    runs = torch.fx.GraphModule(module, alone)
    with torch.no_grad(), enable_python_dispatcher(), mode or nullcontext():
        batched = make_fx(runs)(*values)
        # batching rules change tensors of their own in place: not what a graph should have
        return make_fx(torch.func.functionalize(batched))(*values)
