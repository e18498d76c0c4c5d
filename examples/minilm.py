"""all-MiniLM-L6-v2, a BERT sentence encoder, in plain MLX.

Parameter names are those of the PyTorch checkpoint, so converted weights load strictly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn


@dataclass(frozen=True)
class Config:
    """The part of a BERT config.json that shapes the network."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float

    @classmethod
    def from_dict(cls, config: dict) -> Config:
        return cls(**{name: config[name] for name in cls.__dataclass_fields__})


class Embeddings(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        size = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.position_ids = mx.arange(config.max_position_embeddings)[None]

    def __call__(self, tokens: mx.array) -> mx.array:
        positions = self.position_embeddings(self.position_ids[:, : tokens.shape[1]])
        types = self.token_type_embeddings(mx.zeros_like(tokens))
        return self.LayerNorm(self.word_embeddings(tokens) + positions + types)


class SelfAttention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        size = config.hidden_size
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self._heads = config.num_attention_heads

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        B, L, D = x.shape
        q, k, v = (
            layer(x).reshape(B, L, self._heads, -1).swapaxes(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scale = 1 / math.sqrt(D // self._heads)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
        return y.swapaxes(1, 2).reshape(B, L, D)


class Output(nn.Module):
    """A projection, the residual, and the norm after it."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        return self.LayerNorm(self.dense(x) + residual)


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = Output(config.hidden_size, config)

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        return self.output(self.self(x, mask), x)


class Intermediate(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def __call__(self, x: mx.array) -> mx.array:
        return nn.gelu(self.dense(x))


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = Output(config.intermediate_size, config)

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layer = [Layer(config) for _ in range(config.num_hidden_layers)]

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Pooler(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return mx.tanh(self.dense(x[:, 0]))


class MiniLM(nn.Module):
    """tokens, mask: (B, L) -> sentence embeddings (B, D), of length one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config)

    def __call__(self, tokens: mx.array, mask: mx.array) -> mx.array:
        hidden = self.encoder(self.embeddings(tokens), mask[:, None, None].astype(mx.bool_))
        weights = mask[..., None].astype(hidden.dtype)
        mean = mx.sum(hidden * weights, axis=1) / mx.sum(weights, axis=1)
        return mean / mx.linalg.norm(mean, axis=-1, keepdims=True)
