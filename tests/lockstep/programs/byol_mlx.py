"""A network that follows a slow copy of itself."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

mx.random.seed(0)
data = mx.random.normal((48, 8))


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.online = network()
        self.predictor = nn.Linear(8, 8)

    def __call__(self, x):
        return self.predictor(self.online(x))


both, target = Both(), network()
target.update(both.online.parameters())
target.freeze()
optimizer = optim.AdamW(3e-3, weight_decay=0.05, eps=1e-6, bias_correction=True)


def cosine(a, b):
    lengths = mx.linalg.norm(a, axis=-1) * mx.linalg.norm(b, axis=-1)
    return mx.sum(a * b, axis=-1) / lengths


def loss_fn(x, one, two):
    guess = both(one)
    aim = mx.stop_gradient(target(two))
    pull = both.online(x)
    return 2 - 2 * cosine(guess, aim).mean() + mx.square(mx.stop_gradient(guess) - pull).mean()


step = nn.value_and_grad(both, loss_fn)
for i in range(0, 48, 8):
    x = data[i : i + 8]
    one, two = x + 0.1 * mx.random.normal(x.shape), x + 0.1 * mx.random.normal(x.shape)
    loss, grads = step(x, one, two)
    optimizer.update(both, grads)
    slow = tree_map(lambda s, f: 0.9 * s + 0.1 * f, target.parameters(), both.online.parameters())
    target.update(slow)
    mx.eval(both.parameters(), target.parameters(), optimizer.state)
