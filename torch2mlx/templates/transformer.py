"""A Transformer block: self-attention and a feed-forward part, norms before or after."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.errors import ConversionError
from torch2mlx.export.lower.build_layer import build
from torch2mlx.templates.loading import activation, fill


class Attention(nn.Module):
    """Multi-head self-attention through mx.fast. x: (B, L, D)."""

    def __init__(self, dims: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        if dims % heads:
            raise ValueError(f"{heads} heads do not divide {dims}")
        self.query_proj = nn.Linear(dims, dims, bias=bias)
        self.key_proj = nn.Linear(dims, dims, bias=bias)
        self.value_proj = nn.Linear(dims, dims, bias=bias)
        self.out_proj = nn.Linear(dims, dims, bias=bias)
        self._heads = heads

    def __call__(self, x: mx.array, mask: mx.array | str | None = None) -> mx.array:
        B, L, D = x.shape
        q, k, v = (
            layer(x).reshape(B, L, self._heads, -1).swapaxes(1, 2)
            for layer in (self.query_proj, self.key_proj, self.value_proj)
        )
        scale = 1 / math.sqrt(D // self._heads)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
        return self.out_proj(y.swapaxes(1, 2).reshape(B, L, D))


class TransformerBlock(nn.Module):
    """x: (B, L, D) -> (B, L, D). `mask`: "causal", or an array to add to the scores."""

    def __init__(
        self,
        dims: int,
        heads: int,
        hidden: int,
        norm_first: bool = True,
        activation_name: str = "gelu",
        dropout: float = 0.0,
        eps: float = 1e-5,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.attention = Attention(dims, heads, bias)
        self.ln1 = nn.LayerNorm(dims, eps=eps, bias=bias)
        self.ln2 = nn.LayerNorm(dims, eps=eps, bias=bias)
        self.linear1 = nn.Linear(dims, hidden, bias=bias)
        self.linear2 = nn.Linear(hidden, dims, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self._activation, self._norm_first = activation(activation_name), norm_first

    def _feed(self, x: mx.array) -> mx.array:
        return self.linear2(self.dropout(self._activation(self.linear1(x))))

    def __call__(self, x: mx.array, mask: mx.array | str | None = None) -> mx.array:
        if self._norm_first:
            x = x + self.dropout(self.attention(self.ln1(x), mask))
            return x + self.dropout(self._feed(self.ln2(x)))
        x = self.ln1(x + self.dropout(self.attention(x, mask)))
        return self.ln2(x + self.dropout(self._feed(x)))

    @classmethod
    def from_torch(cls, module: Any) -> TransformerBlock:
        """From an nn.TransformerEncoderLayer; data is batch first here whatever it was there.

        Raises ConversionError for another layer.
        """
        if not hasattr(module, "self_attn") or hasattr(module, "multihead_attn"):
            raise ConversionError(f"{type(module).__name__}: not an nn.TransformerEncoderLayer")
        attention = module.self_attn
        made = cls(
            attention.embed_dim,
            attention.num_heads,
            module.linear1.out_features,
            module.norm_first,
            module.activation.__name__,
            module.dropout.p,
            module.norm1.eps,
            module.linear1.bias is not None,
        )
        made.attention.update(build(attention).parameters())
        pairs = {"linear1": "linear1", "linear2": "linear2", "ln1": "norm1", "ln2": "norm2"}
        for target, source in pairs.items():
            fill(made[target], getattr(module, source))
        made.train(module.training)
        return made
