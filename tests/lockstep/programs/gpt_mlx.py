"""The transformer, after MLX's examples: a schedule that the optimizer calls, a compiled step."""

import math
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

mx.random.seed(3)
tokens = mx.random.randint(0, 16, (200,))
BLOCK, WIDTH, HEADS = 8, 16, 2


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.drop = nn.Dropout(0.1)

    def __call__(self, x):
        B, T, C = x.shape
        q, k, v = mx.split(self.qkv(x), 3, axis=2)
        q, k, v = (t.reshape(B, T, HEADS, C // HEADS).transpose(0, 2, 1, 3) for t in (q, k, v))
        att = (q @ k.transpose(0, 1, 3, 2)) / math.sqrt(C // HEADS)
        att = mx.where(mx.tril(mx.ones((T, T), dtype=mx.bool_)), att, -mx.inf)
        att = self.drop(mx.softmax(att, axis=-1))
        return self.proj((att @ v).transpose(0, 2, 1, 3).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH), nn.Dropout(0.1)
        )

    def __call__(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(16, WIDTH)
        self.wpe = nn.Embedding(BLOCK, WIDTH)
        self.blocks = [Block() for _ in range(2)]
        self.ln_f = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 16, bias=False)
        init = nn.init.normal(0.0, 0.02)
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                m.weight = init(m.weight)

    def __call__(self, idx):
        x = self.wte(idx) + self.wpe(mx.arange(idx.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


model = GPT()
schedule = optim.cosine_decay(1e-2, 20)
optimizer = optim.AdamW(schedule, betas=[0.9, 0.95], weight_decay=0.1, bias_correction=True)


def loss_fn(x, y):
    return nn.losses.cross_entropy(model(x), y, label_smoothing=0.1, reduction="mean")


grad = nn.value_and_grad(model, loss_fn)
state = [model.state, optimizer.state, mx.random.state]


@partial(mx.compile, inputs=state, outputs=state)
def train_step(x, y):
    loss, grads = grad(x, y)
    grads, _ = optim.clip_grad_norm(grads, 1.0)
    optimizer.update(model, grads)
    return loss


for _step in range(8):
    starts = mx.random.randint(0, 200 - BLOCK - 1, (6,)).tolist()
    x = mx.stack([tokens[i : i + BLOCK] for i in starts])
    y = mx.stack([tokens[i + 1 : i + BLOCK + 1] for i in starts])
    loss = train_step(x, y)
    mx.eval(state)
