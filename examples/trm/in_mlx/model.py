"""TinyRecursiveModels in PyTorch, written for reading: one small network, called again and again.

A latent answer z_H and a latent reasoning z_L are refined by the same blocks: L_cycles times z_L,
then z_H, and that H_cycles times, of which only the last leaves a gradient. Adaptive computation
goes on with a puzzle over several calls, until a head says halt. Names of parameters are those of
the public implementation (Samsung SAIL Montreal, 2025), so its checkpoints load.
"""

import math
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit

from .layers import (
    Attention,
    CastedEmbedding,
    CastedLinear,
    RotaryEmbedding,
    SparseEmbedding,
    SwiGLU,
    rms_norm,
    truncated_normal,
)


@dataclass
class ModelConfig:
    """Sizes. `pos_encodings`: rope, learned or none; `mlp_t`: cells are mixed by an MLP instead of
    attention."""

    batch_size: int
    seq_len: int
    vocab_size: int
    num_puzzle_identifiers: int = 1
    hidden_size: int = 64
    num_heads: int = 4
    expansion: float = 4.0
    L_layers: int = 2
    H_cycles: int = 2
    L_cycles: int = 2
    pos_encodings: str = "rope"
    mlp_t: bool = False
    puzzle_emb_ndim: int = 0
    puzzle_emb_len: int = 0
    halt_max_steps: int = 4
    halt_exploration_prob: float = 0.1
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    forward_dtype: str = "float32"


@dataclass
class InnerCarry:
    """The latent states, (batch, cells, hidden)."""

    z_H: mx.array
    z_L: mx.array


@dataclass
class Carry:
    """What one call hands to the next: states, steps so far, who has halted, their puzzles."""

    inner: InnerCarry
    steps: mx.array
    halted: mx.array
    data: dict[str, mx.array]


class Block(nn.Module):
    """Mixing between cells, then an MLP in each cell; norms come after."""

    def __init__(self, config: ModelConfig, cells: int):
        super().__init__()
        self.eps = config.rms_norm_eps
        self.over_cells = config.mlp_t
        if config.mlp_t:
            self.mlp_t = SwiGLU(cells, config.expansion)
        else:
            self.self_attn = Attention(config.hidden_size, config.num_heads)
        self.mlp = SwiGLU(config.hidden_size, config.expansion)

    def __call__(self, x: mx.array, angles) -> mx.array:
        if self.over_cells:
            across = x.swapaxes(1, 2)
            x = rms_norm(across + self.mlp_t(across), self.eps).swapaxes(1, 2)
        else:
            x = rms_norm(x + self.self_attn(x, angles), self.eps)
        return rms_norm(x + self.mlp(x), self.eps)


class Reasoning(nn.Module):
    """The blocks: one state, with another added to it, refined."""

    def __init__(self, config: ModelConfig, cells: int):
        super().__init__()
        self.layers = [Block(config, cells) for _ in range(config.L_layers)]

    def __call__(self, state: mx.array, added: mx.array, angles) -> mx.array:
        x = state + added
        for layer in self.layers:
            x = layer(x, angles)
        return x


class Inner(nn.Module):
    """The recursion over one puzzle batch."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.dtype = kit.tensors.dtype(config.forward_dtype)
        self.prefix = config.puzzle_emb_len
        if config.puzzle_emb_ndim and not self.prefix:
            self.prefix = -(-config.puzzle_emb_ndim // config.hidden_size)
        cells, hidden = config.seq_len + self.prefix, config.hidden_size
        self.scale = math.sqrt(hidden)
        std = 1 / self.scale
        self.embed_tokens = CastedEmbedding(config.vocab_size, hidden, std, self.dtype)
        self.lm_head = CastedLinear(hidden, config.vocab_size)
        self.q_head = CastedLinear(hidden, 2, bias=True)
        if config.puzzle_emb_ndim:
            self.puzzle_emb = SparseEmbedding(
                config.num_puzzle_identifiers, config.puzzle_emb_ndim, config.batch_size, self.dtype
            )
        if config.pos_encodings == "rope":
            self.rotary_emb = RotaryEmbedding(hidden // config.num_heads, cells, config.rope_theta)
        elif config.pos_encodings == "learned":
            self.embed_pos = CastedEmbedding(cells, hidden, std, self.dtype)
        self.L_level = Reasoning(config, cells)
        self.H_init = truncated_normal((hidden,), 1.0, self.dtype)
        self.freeze(keys=["H_init"], recurse=False)
        self.L_init = truncated_normal((hidden,), 1.0, self.dtype)
        self.freeze(keys=["L_init"], recurse=False)
        self.q_head.weight = kit.init.zeros(self.q_head.weight)
        self.q_head.bias = kit.init.constant(self.q_head.bias, -5)

    def embedded(self, inputs: mx.array, ids: mx.array) -> mx.array:
        """Cells as vectors, the puzzle's own in front."""
        x = self.embed_tokens(inputs)
        if self.config.puzzle_emb_ndim:
            own = self.puzzle_emb(ids)
            missing = self.prefix * self.config.hidden_size - own.shape[-1]
            own = kit.padding.pad(own, (0, missing)).reshape(-1, self.prefix, self.config.hidden_size)
            x = mx.concatenate((own, x), axis=1)
        if self.config.pos_encodings == "learned":
            x = 0.707106781 * (x + self.embed_pos.embedding_weight.astype(self.dtype))
        return self.scale * x

    def started(self, batch_size: int) -> InnerCarry:
        """States that the first call replaces: everybody has halted by then."""
        shape = (batch_size, self.config.seq_len + self.prefix, self.config.hidden_size)
        zeros = mx.zeros(shape, dtype=self.dtype)
        return InnerCarry(z_H=zeros, z_L=zeros)

    def __call__(self, carry: InnerCarry, restart: mx.array, data: dict[str, mx.array]):
        first = restart.reshape(-1, 1, 1)
        z_H = mx.where(first, self.H_init, carry.z_H)
        z_L = mx.where(first, self.L_init, carry.z_L)
        angles = self.rotary_emb() if self.config.pos_encodings == "rope" else None
        x = self.embedded(data["inputs"], data["puzzle_identifiers"])
        for _ in range(self.config.H_cycles - 1):
            for _ in range(self.config.L_cycles):
                z_L = mx.stop_gradient(self.L_level(z_L, z_H + x, angles))
            z_H = mx.stop_gradient(self.L_level(z_H, z_L, angles))
        for _ in range(self.config.L_cycles):
            z_L = self.L_level(z_L, z_H + x, angles)
        z_H = self.L_level(z_H, z_L, angles)
        logits = self.lm_head(z_H)[:, self.prefix :]
        q_logits = self.q_head(z_H[:, 0]).astype(mx.float32)
        return InnerCarry(z_H=mx.stop_gradient(z_H), z_L=mx.stop_gradient(z_L)), logits, q_logits


class RecursiveModel(nn.Module):
    """Adaptive computation: each call refines, halts some puzzles, and takes new ones for them."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.inner = Inner(config)

    def initial_carry(self, batch: dict[str, mx.array]) -> Carry:
        size = batch["inputs"].shape[0]
        return Carry(
            inner=self.inner.started(size),
            steps=mx.zeros((size,), dtype=mx.int32),
            halted=mx.ones((size,), dtype=mx.bool_),
            data={name: mx.zeros_like(value) for name, value in batch.items()},
        )

    def refreshed(self, carry: Carry, batch: dict[str, mx.array]) -> dict[str, mx.array]:
        """The puzzles of this call: new ones where the old have halted."""
        flags = carry.halted
        return {
            "inputs": mx.where(flags[:, None], batch["inputs"], carry.data["inputs"]),
            "labels": mx.where(flags[:, None], batch["labels"], carry.data["labels"]),
            "puzzle_identifiers": mx.where(flags, batch["puzzle_identifiers"], carry.data["puzzle_identifiers"]),
        }

    def __call__(self, carry: Carry, batch: dict[str, mx.array]):
        data = self.refreshed(carry, batch)
        inner, logits, q_logits = self.inner(carry.inner, carry.halted, data)
        q_halt = q_logits[:, 0]
        steps = mx.stop_gradient(mx.where(carry.halted, 0, carry.steps) + 1)
        halted = steps >= self.config.halt_max_steps
        if self.training and self.config.halt_max_steps > 1:
            explores = mx.random.uniform(shape=q_halt.shape, dtype=q_halt.dtype) < self.config.halt_exploration_prob
            drawn = kit.tensors.randint(2, self.config.halt_max_steps + 1, steps.shape, dtype=steps.dtype)
            halted = (halted | (q_halt > 0)) & (steps >= explores * drawn)
        return Carry(inner=inner, steps=steps, halted=halted, data=data), logits, q_halt
