"""What a language model's file says in mlx-lm's words: the embedding as the last layer, attention
through the cache, which may hold keys that are quantized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, is_call, operands
from torch2mlx.export.passes.causal import ATTENTION
from torch2mlx.export.passes.rewrite import Rewriter

_LIKELIEST = "kit.sorting.likeliest"


def with_idioms(program: Program, tree: Any) -> Program:
    """The program with these calls; `tree` is the model's."""
    embeddings = {f"{path}.weight": path for path in _embeddings(tree)}

    def rule(r: Rewriter, node: Node) -> Any:
        if node.op == "operator.matmul":
            return _as_linear(r, node, embeddings)
        if node.op == ATTENTION:
            return _attending(r, node)
        if node.op == "item" and node.args[1] == 1 and is_call(node.args[0], _LIKELIEST):
            return r.builder.cast(r.builder.call("item", *node.args), node.dtype)
        return _likeliest(r, node) if node.op == "kit.sorting.topk" else None

    return Rewriter(program).run(rule)


def with_linear_embeddings(program: Program, tree: Any) -> Program:
    """The program with an embedding called as the last layer alone."""
    embeddings = {f"{path}.weight": path for path in _embeddings(tree)}

    def rule(r: Rewriter, node: Node) -> Any:
        return _as_linear(r, node, embeddings) if node.op == "operator.matmul" else None

    return Rewriter(program).run(rule)


def _embeddings(tree: Any) -> Iterator[str]:
    """Paths in the emitted tree of the layers that are embeddings, MLX's own or the kit's."""
    for path in tree.modules:
        twin = tree.stock(path) if path else None
        if twin is not None and twin.path in ("mlx.nn.Embedding", "torch2mlx.kit.Embedding"):
            yield tree.owner(path)


def _as_linear(r: Rewriter, node: Node, embeddings: dict[str, str]) -> Node | None:
    """x @ weight.T of an embedding, called where the module that did it in torch was called."""
    x, weight = node.args
    turned = isinstance(weight, Node) and weight.op == "method.transpose" and weight.args[1:]
    if not turned or tuple(turned) != (1, 0) or weight.args[0].op != "param":
        return None
    owner = embeddings.get(weight.args[0].args[0])
    if owner is None:
        return None
    made = Node("method.as_linear", (Node("module", (owner, owner)), x), {}, node.value, node.dims)
    r.builder.scope = node.scope[:-1] if len(node.scope) > 1 else node.scope
    return r.builder.add(made)


def _likeliest(r: Rewriter, node: Node) -> Node | None:
    """topk of what a softmax over the same axis gave: a NaN makes its whole row NaN."""
    x, k = node.args[:2]
    if not is_call(x, "mx.softmax") or x.kwargs.get("axis") not in (-1, x.ndim - 1):
        return None
    if len(node.args) > 2 or node.kwargs or not isinstance(k, int):
        return None
    return r.builder.call(_LIKELIEST, x, k)


def _attending(r: Rewriter, node: Node) -> Node | None:
    """Attention to what one cache gave: it may hold keys and values in a form of its own."""
    _, keys, values = node.args
    cache = _cache_of(keys)
    if cache is None or cache is not _cache_of(values):
        return None
    known = {"cache": cache, "scale": node.kwargs["scale"], "mask": node.kwargs.get("mask")}
    if set(node.kwargs) - known.keys():
        return None
    return r.builder.add(Node("attend", node.args, known, node.value, node.dims))


def _cache_of(value: Any) -> Node | None:
    """The cache that keys or values were fetched from."""
    if not isinstance(value, Node) or value.op != "item":
        return None
    maker = value.args[0]
    return maker.args[0] if maker.op == "method.update_and_fetch" else None


def read_bare(program: Program, tree: Any) -> list[str]:
    """Stock layers whose weight the program reads, by their paths: quantizing would break them."""
    read = {n.args[0] for node in program.nodes for n in operands(node) if n.op == "param"}
    layers = {tree.owner(path) for path in tree.modules if path and tree.stock(path) is not None}
    return sorted({name.rpartition(".")[0] for name in read} & layers)


def attends(program: Program) -> bool:
    """Whether some attention goes through a cache."""
    return any(node.op == "attend" for node in program.nodes)


def may_be_quantized(program: Program) -> bool:
    """Whether all that reads keys and values of caches is attention that takes them in any form."""
    return all(
        node.op == "attend"
        for node in program.nodes
        for read in operands(node)
        if read.op == "item" and read.args[0].op == "method.update_and_fetch"
    )
