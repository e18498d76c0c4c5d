"""Layers of TinyRecursiveModels: weights in float32, cast to the input's dtype when used."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def truncated_normal(shape: tuple, std: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal numbers cut at two deviations, with the deviation `std` after the cut."""
    if std == 0:
        return torch.zeros(shape, dtype=dtype)
    edge = math.erf(math.sqrt(2))
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    wide = std / math.sqrt(1 - 4 * density / edge)
    drawn = torch.rand(shape) * 2 * edge - edge
    normal = torch.erfinv(drawn) * math.sqrt(2) * wide
    return normal.clamp(-2 * wide, 2 * wide).to(dtype)


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """x over its root mean square, in float32."""
    wide = x.to(torch.float32)
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale).to(x.dtype)


class CastedLinear(nn.Module):
    """A linear layer whose weight takes the input's dtype when it is used."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(truncated_normal((outputs, inputs), inputs**-0.5))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.linear(x, self.weight.to(x.dtype))
        return y if self.bias is None else y + self.bias.to(x.dtype)


class CastedEmbedding(nn.Module):
    """A table of vectors in the dtype of the forward pass."""

    def __init__(self, rows: int, width: int, std: float, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.embedding_weight = nn.Parameter(truncated_normal((rows, width), std))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.embedding_weight.to(self.dtype))


class SparseEmbedding(nn.Module):
    """One vector per puzzle. The table is no parameter: in training its rows of the batch are
    copied to a leaf, whose gradient a sign-SGD brings back to the rows."""

    def __init__(self, rows: int, width: int, batch: int, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.weights = nn.Buffer(torch.zeros(rows, width))
        self.local_weights = nn.Buffer(
            torch.zeros(batch, width, requires_grad=True), persistent=False
        )
        self.local_ids = nn.Buffer(torch.zeros(batch, dtype=torch.int32), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.weights[ids].to(self.dtype)
        with torch.no_grad():
            self.local_weights.copy_(self.weights[ids])
            self.local_ids.copy_(ids)
        return self.local_weights.to(self.dtype)


class RotaryEmbedding(nn.Module):
    """cos and sin of the rotary angles, (cells, head width), computed once."""

    def __init__(self, width: int, cells: int, base: float):
        super().__init__()
        rates = base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = torch.outer(torch.arange(cells, dtype=torch.float32), rates)
        both = torch.cat((angles, angles), dim=-1)
        self.cos_cached = nn.Buffer(both.cos(), persistent=False)
        self.sin_cached = nn.Buffer(both.sin(), persistent=False)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cos_cached, self.sin_cached


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position in x (batch, heads, cells, width), in the dtype of the angles."""
    wide = x.to(cos.dtype)
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Attention of all cells to all."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv_proj = CastedLinear(hidden, 3 * hidden)
        self.o_proj = CastedLinear(hidden, hidden)

    def forward(self, x: torch.Tensor, angles) -> torch.Tensor:
        batch, cells, hidden = x.shape
        qkv = self.qkv_proj(x).view(batch, cells, 3 * self.heads, hidden // self.heads)
        query, key, value = qkv.transpose(1, 2).chunk(3, dim=1)
        if angles is not None:
            cos, sin = angles
            query, key = rotated(query, cos, sin), rotated(key, cos, sin)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, cells, hidden))


class SwiGLU(nn.Module):
    """A gated MLP; its inner width is rounded up to a multiple of 256."""

    def __init__(self, hidden: int, expansion: float):
        super().__init__()
        inner = -(-round(expansion * hidden * 2 / 3) // 256) * 256
        self.gate_up_proj = CastedLinear(hidden, 2 * inner)
        self.down_proj = CastedLinear(inner, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)
