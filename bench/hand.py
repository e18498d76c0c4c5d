"""Five networks as mlx-examples write them: the peers of ported scripts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = (784, 256, 256, 10)
        self.layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.layers[:-1]:
            x = nn.relu(layer(x))
        return self.layers[-1](x)


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm(32)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc = nn.Linear(32 * 7 * 7, 10)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.pool(nn.relu(self.norm1(self.conv1(x))))
        x = self.pool(nn.relu(self.norm2(self.conv2(x))))
        return self.fc(x.flatten(1))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def __call__(self, x: mx.array) -> mx.array:
        batch, length, width = x.shape
        parts = mx.split(self.qkv(self.norm1(x)), 3, axis=-1)
        q, k, v = (p.reshape(batch, length, self.heads, -1).transpose(0, 2, 1, 3) for p in parts)
        scale = (width // self.heads) ** -0.5
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal")
        x = x + self.out(y.transpose(0, 2, 1, 3).reshape(batch, length, width))
        return x + self.down(nn.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(64, 128), nn.Embedding(64, 128)
        self.blocks = [Block(128, 4) for _ in range(2)]
        self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 64, bias=False)

    def __call__(self, ids: mx.array) -> mx.array:
        x = self.words(ids) + self.places(mx.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(64, 128), nn.LSTM(128, 128)
        self.head = nn.Linear(128, 64)

    def __call__(self, ids: mx.array) -> mx.array:
        return self.head(self.rnn(self.words(ids))[0])


class Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(32, outputs)
        self.norm = nn.GroupNorm(4, outputs, pytorch_compatible=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def __call__(self, x: mx.array, t: mx.array) -> mx.array:
        h = self.conv1(x) + self.time(t)[:, None, None, :]
        return self.conv2(nn.silu(self.norm(h)))


class UNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32))
        self.down1, self.down2 = Stage(3, width), Stage(width, 2 * width)
        self.middle = Stage(2 * width, 2 * width)
        self.up1, self.up2 = Stage(4 * width, width), Stage(2 * width, width)
        self.pool, self.grow = nn.MaxPool2d(2, 2), nn.Upsample(2)
        self.out = nn.Conv2d(width, 3, 1)

    def __call__(self, x: mx.array, t: mx.array) -> mx.array:
        t = self.embed(t[:, None])
        a = self.down1(x, t)
        b = self.down2(self.pool(a), t)
        c = self.grow(self.middle(self.pool(b), t))
        d = self.grow(self.up1(mx.concatenate([c, b], axis=-1), t))
        return self.out(self.up2(mx.concatenate([d, a], axis=-1), t))


def classified(model: nn.Module, x: mx.array, y: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


predicted = classified


def denoised(model: nn.Module, x: mx.array, t: mx.array, noise: mx.array) -> mx.array:
    mix = t[:, None, None, None]
    return nn.losses.mse_loss(model((1 - mix) * x + mix * noise, t), noise)


def last(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """A batch with its images channels last."""
    return tuple(np.moveaxis(part, 1, -1) if part.ndim == 4 else part for part in batch)
