"""Attention and Transformer layers: the kit's, with torch's options and masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.catalog.layers.entry import Row, Twin, layer, one_of, refused, taken
from torch2mlx.catalog.weights.actions import Move, On, Shapes, Split
from torch2mlx.errors import Unsupported
from torch2mlx.types import ModuleRecord

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu"}


def attention(module: Any) -> Twin:
    """MultiheadAttention of the kit."""
    names = ("embed_dim", "num_heads", "dropout", "add_zero_attn", "kdim", "vdim", "batch_first")
    more = {"bias": module.out_proj.bias is not None, "add_bias_kv": module.bias_k is not None}
    return Twin("torch2mlx.kit.MultiheadAttention", {**taken(module, names), **more})


def layer_options(module: Any) -> dict[str, Any] | Unsupported:
    """Constructor arguments of a Transformer layer, read back from its parts."""
    activation = getattr(module.activation, "__name__", "")
    if activation not in _ACTIVATIONS:
        name = activation or type(module.activation).__name__
        return refused(module, f"activation {name}: only relu and gelu are known")
    attention = module.self_attn
    return {
        "d_model": attention.embed_dim,
        "nhead": attention.num_heads,
        "dim_feedforward": module.linear1.out_features,
        "dropout": module.dropout.p,
        "activation": _ACTIVATIONS[activation],
        "layer_norm_eps": module.norm1.eps,
        "batch_first": attention.batch_first,
        "norm_first": module.norm_first,
        "bias": module.linear1.bias is not None,
    }


def stacked(module: Any) -> Twin | Unsupported:
    """A layer of the kit."""
    options = layer_options(module)
    if isinstance(options, Unsupported):
        return options
    kind = "Encoder" if not hasattr(module, "multihead_attn") else "Decoder"
    return Twin(f"torch2mlx.kit.Transformer{kind}Layer", options)


def stack(module: Any) -> Twin:
    """A stack of the kit over the twins of its layers."""
    kind = one_of(module, frozenset(("TransformerEncoder", "TransformerDecoder")))
    children = {"layers": list(module.layers), "norm": module.norm}
    return Twin(f"torch2mlx.kit.{kind}", children=children)


def transformer(module: Any) -> Twin:
    """The kit's, over the twins of encoder and decoder."""
    children = taken(module, ("encoder", "decoder"))
    return Twin("torch2mlx.kit.transformer.EncoderDecoder", children=children)


def projections(record: ModuleRecord, shapes: Shapes) -> Iterator[On]:
    """MultiheadAttention: the packed (3E, E) input projection becomes three."""
    names = ("query_proj", "key_proj", "value_proj")
    for name in ("weight", "bias"):
        if f"in_proj_{name}" in shapes:
            yield On(f"in_proj_{name}", Split(tuple(f"{p}.{name}" for p in names)))
    for short, projection in zip("qkv", names, strict=True):
        if f"{short}_proj_weight" in shapes:
            yield On(f"{short}_proj_weight", Move(to=f"{projection}.weight"))


_TENSORS: Row = {
    "in_proj_weight": "3*embed embed",
    "in_proj_bias": "3*embed",
    "q_proj_weight": "embed embed",
    "k_proj_weight": "embed keys",
    "v_proj_weight": "embed values",
    "bias_k": "1 1 embed",
    "bias_v": "1 1 embed",
    "out_proj.weight": "embed embed",
    "out_proj.bias": "embed",
}
_NORMS = {"norm1": "ln1", "norm2": "ln2"}

layer(
    "MultiheadAttention",
    attention,
    mlx="torch2mlx.kit.{name}",
    native="mlx.nn.MultiHeadAttention",
    weights=projections,
    tensors=_TENSORS,
    source="kit",
)
layer(
    "TransformerEncoderLayer",
    stacked,
    mlx="torch2mlx.kit.{name}",
    native="mlx.nn.{name}",
    children={"self_attn": "attention", **_NORMS},
    source="kit",
)
layer(
    "TransformerDecoderLayer",
    stacked,
    mlx="torch2mlx.kit.{name}",
    native="mlx.nn.{name}",
    children={
        "self_attn": "self_attention",
        "multihead_attn": "cross_attention",
        **_NORMS,
        "norm3": "ln3",
    },
    source="kit",
)
layer(
    "TransformerEncoder TransformerDecoder",
    stack,
    mlx="torch2mlx.kit.{name}",
    native="mlx.nn.{name}",
    children={"norm": "ln"},
)
layer(
    "Transformer",
    transformer,
    mlx="torch2mlx.kit.transformer.EncoderDecoder",
    native="mlx.nn.{name}",
    source="kit",
)
