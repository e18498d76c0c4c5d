"""Attention and Transformer layers: the kit's, with torch's options and masks."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.twin import Twin, refused, taken, twin
from torch2mlx.errors import Unsupported

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu"}


@twin("MultiheadAttention")
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


@twin("TransformerEncoderLayer", "TransformerDecoderLayer")
def layer(module: Any) -> Twin | Unsupported:
    """A layer of the kit."""
    options = layer_options(module)
    if isinstance(options, Unsupported):
        return options
    kind = "Encoder" if not hasattr(module, "multihead_attn") else "Decoder"
    return Twin(f"torch2mlx.kit.Transformer{kind}Layer", options)


@twin("TransformerEncoder", "TransformerDecoder")
def stack(module: Any) -> Twin:
    """A stack of the kit over the twins of its layers."""
    names = {"TransformerEncoder", "TransformerDecoder"}
    kind = next(cls.__name__ for cls in type(module).__mro__ if cls.__name__ in names)
    children = {"layers": list(module.layers), "norm": module.norm}
    return Twin(f"torch2mlx.kit.{kind}", children=children)


@twin("Transformer")
def transformer(module: Any) -> Twin:
    """The kit's, over the twins of encoder and decoder."""
    children = taken(module, ("encoder", "decoder"))
    return Twin("torch2mlx.kit.transformer.EncoderDecoder", children=children)
