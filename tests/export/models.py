"""Small networks written for the tests of translation: each with example inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Mlp(nn.Module):
    """Linear layers and activations in a Sequential."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 3))

    def forward(self, x):
        return self.body(x)


class Cnn(nn.Module):
    """Convolution, batch norm, pooling, and a Linear on what was flattened."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8 * 4 * 4, 5)

    def forward(self, image):
        x = self.pool(F.relu(self.bn1(self.conv1(image))))
        x = x + torch.tanh(x)
        x = F.relu(self.conv2(x))
        return self.head(x.flatten(1))


class Tagger(nn.Module):
    """Embedding, a bidirectional LSTM, scores for every word."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.score = nn.Linear(12, 4)

    def forward(self, ids):
        states, (last, _) = self.lstm(self.words(ids))
        return {"scores": self.score(states).log_softmax(-1), "last": last}


class Block(nn.Module):
    """A pre-norm transformer block, attention written by hand."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x, mask=None):
        b, n, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.drop(self.out(a.transpose(1, 2).reshape(b, n, d)))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    """A stack of blocks with a causal mask, tied output weights."""

    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Embedding(40, 16), nn.Embedding(32, 16)
        self.blocks = nn.ModuleList(Block(16, 2) for _ in range(3))
        self.head = nn.Linear(16, 40, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        n = ids.shape[1]
        x = self.embed(ids) + self.places(torch.arange(n))
        mask = torch.ones(n, n, dtype=torch.bool).tril()
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x)


class Writer(nn.Module):
    """Writes in place: slices, masks, views of one memory."""

    def forward(self, x):
        y = x.clone()
        y[:, 1] = 0
        y[..., 0].add_(3)
        row = y[0]
        row.mul_(2)
        y[y > 4] = -1
        z = torch.zeros_like(y)
        z[:, :2] += y[:, :2]
        z.transpose(0, 1)[1] = 7
        return y, z


class Holder(nn.Module):
    """Buffers, own parameters, a constant table."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(5))
        self.register_buffer("mean", torch.rand(5))
        self.register_buffer("table", torch.rand(9, 5), persistent=False)

    def forward(self, x):
        with torch.no_grad():
            seen = x * self.mean
        return (x - self.mean) * self.scale + self.table[: x.shape[0]] + seen.detach()


class Residual(nn.Module):
    """Two convolutions, group norms, a time embedding, a shortcut."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, inputs), nn.GroupNorm(4, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(16, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.shortcut(x)


class UNet(nn.Module):
    """A diffusion UNet: down, middle, up with skips, sinusoidal time."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down1, self.down2 = Residual(width, width), Residual(width, 2 * width)
        self.pool = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1)
        self.middle = Residual(2 * width, 2 * width)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up1, self.up2 = Residual(4 * width, width), Residual(2 * width, width)
        self.norm, self.out = nn.GroupNorm(4, width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image, step):
        rates = torch.exp(torch.arange(8) * -0.5)
        angles = step[:, None].float() * rates[None]
        time = torch.cat([angles.sin(), angles.cos()], dim=-1)
        first = self.down1(self.stem(image), time)
        second = self.down2(first, time)
        x = self.up(self.middle(self.pool(second), time))
        x = self.up1(torch.cat([x, second], dim=1), time)
        x = self.up2(torch.cat([x, first], dim=1), time)
        return self.out(F.silu(self.norm(x)))


class Attending(nn.Module):
    """torch's own attention with options, a counter of calls, a dictionary of layers."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.parts = nn.ModuleDict({"one": nn.Linear(16, 16), "two": nn.Linear(16, 16)})
        self.queries = nn.Parameter(torch.randn(1, 3, 16))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        queries = self.parts["one"](self.queries.expand(x.shape[0], -1, -1))
        found, weights = self.attention(queries, x, x, average_attn_weights=False)
        return {"found": self.parts["two"](found), "weights": weights, "calls": self.calls}


def small_models():
    """name -> (model, arguments)."""
    torch.manual_seed(0)
    ids = torch.randint(0, 30, (2, 7))
    return {
        "mlp": (Mlp(), (torch.randn(4, 6),)),
        "cnn": (Cnn(), (torch.randn(2, 3, 16, 16),)),
        "tagger": (Tagger(), (ids,)),
        "decoder": (Decoder(), (ids,)),
        "writer": (Writer(), (torch.randn(3, 4),)),
        "holder": (Holder(), (torch.randn(4, 5),)),
        "attending": (Attending(), (torch.randn(2, 7, 16),)),
        "unet": (UNet(), (torch.randn(2, 3, 16, 16), torch.tensor([3, 40]))),
    }
