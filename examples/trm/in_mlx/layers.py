"""Layers of TinyRecursiveModels: weights in float32, cast to the input's dtype when used."""

import math

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit


def truncated_normal(shape: tuple, std: float, dtype: mx.Dtype = mx.float32) -> mx.array:
    """Normal numbers cut at two deviations, with the deviation `std` after the cut."""
    if std == 0:
        return mx.zeros(shape, dtype=dtype)
    edge = math.erf(math.sqrt(2))
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    wide = std / math.sqrt(1 - 4 * density / edge)
    drawn = mx.random.uniform(shape=shape) * 2 * edge - edge
    normal = mx.erfinv(drawn) * math.sqrt(2) * wide
    return mx.clip(normal, -2 * wide, 2 * wide).astype(dtype)


def rms_norm(x: mx.array, eps: float) -> mx.array:
    """x over its root mean square, in float32."""
    wide = x.astype(mx.float32)
    scale = mx.rsqrt(wide.square().mean(axis=-1, keepdims=True) + eps)
    return (wide * scale).astype(x.dtype)


class CastedLinear(nn.Module):
    """A linear layer whose weight takes the input's dtype when it is used."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__()
        self.weight = truncated_normal((outputs, inputs), inputs**-0.5)
        self.bias = mx.zeros(outputs) if bias else None

    def __call__(self, x: mx.array) -> mx.array:
        y = kit.functional.linear(x, self.weight.astype(x.dtype))
        return y if self.bias is None else y + self.bias.astype(x.dtype)


class CastedEmbedding(nn.Module):
    """A table of vectors in the dtype of the forward pass."""

    def __init__(self, rows: int, width: int, std: float, dtype: mx.Dtype):
        super().__init__()
        self.dtype = dtype
        self.embedding_weight = truncated_normal((rows, width), std)

    def __call__(self, ids: mx.array) -> mx.array:
        return self.embedding_weight.astype(self.dtype)[ids]


class SparseEmbedding(nn.Module):
    """One vector per puzzle. The table is no parameter: in training its rows of the batch are
    copied to a leaf, whose gradient a sign-SGD brings back to the rows."""

    def __init__(self, rows: int, width: int, batch: int, dtype: mx.Dtype):
        super().__init__()
        self.dtype = dtype
        self.weights = mx.zeros((rows, width))
        self.freeze(keys=["weights"], recurse=False)
        self.local_weights = mx.zeros((batch, width))
        kit.training.transient(self, "local_weights")
        kit.training.hide(self, "local_ids", mx.zeros((batch,), dtype=mx.int32))

    def __call__(self, ids: mx.array) -> mx.array:
        if not self.training:
            return self.weights[ids].astype(self.dtype)
        self.local_weights = kit.training.overwritten(self.local_weights, self.weights[ids])
        kit.training.hide(self, "local_ids", mx.stop_gradient(ids))
        return self.local_weights.astype(self.dtype)


class RotaryEmbedding(nn.Module):
    """cos and sin of the rotary angles, (cells, head width), computed once."""

    def __init__(self, width: int, cells: int, base: float):
        super().__init__()
        rates = base ** (-kit.tensors.arange(0, width, 2, dtype=mx.float32) / width)
        angles = mx.outer(kit.tensors.arange(cells, dtype=mx.float32), rates)
        both = mx.concatenate((angles, angles), axis=-1)
        kit.training.hide(self, "cos_cached", both.cos())
        kit.training.hide(self, "sin_cached", both.sin())

    def __call__(self) -> tuple[mx.array, mx.array]:
        return self.cos_cached, self.sin_cached


def rotated(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotary position in x (batch, heads, cells, width), in the dtype of the angles."""
    wide = x.astype(cos.dtype)
    first, second = kit.tensors.chunk(wide, 2, -1)
    return (wide * cos + mx.concatenate((-second, first), axis=-1) * sin).astype(x.dtype)


class Attention(nn.Module):
    """Attention of all cells to all."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv_proj = CastedLinear(hidden, 3 * hidden)
        self.o_proj = CastedLinear(hidden, hidden)

    def __call__(self, x: mx.array, angles) -> mx.array:
        batch, cells, hidden = x.shape
        qkv = self.qkv_proj(x).reshape(batch, cells, 3 * self.heads, hidden // self.heads)
        query, key, value = kit.tensors.chunk(qkv.swapaxes(1, 2), 3, 1)
        if angles is not None:
            cos, sin = angles
            query, key = rotated(query, cos, sin), rotated(key, cos, sin)
        mixed = kit.functional.attention(query, key, value)
        return self.o_proj(mixed.swapaxes(1, 2).reshape(batch, cells, hidden))


class SwiGLU(nn.Module):
    """A gated MLP; its inner width is rounded up to a multiple of 256."""

    def __init__(self, hidden: int, expansion: float):
        super().__init__()
        inner = -(-round(expansion * hidden * 2 / 3) // 256) * 256
        self.gate_up_proj = CastedLinear(hidden, 2 * inner)
        self.down_proj = CastedLinear(inner, hidden)

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = kit.tensors.chunk(self.gate_up_proj(x), 2, -1)
        return self.down_proj(nn.silu(gate) * up)
