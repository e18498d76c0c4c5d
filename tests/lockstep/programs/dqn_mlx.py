"""Q-learning with an optimizer of the script's own."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

mx.random.seed(0)


class Q(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(4, 24)
        self.l2 = nn.Linear(24, 3)

    def __call__(self, x):
        return self.l2(nn.relu(self.l1(x)))


class Adam:
    def __init__(self, lr, b1=0.9, b2=0.999, eps=1e-8):
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.m, self.v, self.t = {}, {}, 0

    def update(self, model, grads):
        self.t += 1
        new = []
        params = dict(tree_flatten(model.trainable_parameters()))
        for name, g in tree_flatten(grads):
            m = self.b1 * self.m.get(name, 0) + (1 - self.b1) * g
            v = self.b2 * self.v.get(name, 0) + (1 - self.b2) * g * g
            self.m[name], self.v[name] = m, v
            m, v = m / (1 - self.b1**self.t), v / (1 - self.b2**self.t)
            new.append((name, params[name] - self.lr * m / (mx.sqrt(v) + self.eps)))
        model.update(tree_unflatten(new))


states, following = mx.random.normal((100, 4)), mx.random.normal((100, 4))
actions, rewards = mx.random.randint(0, 3, (100,)), mx.random.normal((100,))
policy, target = Q(), Q()
target.update(policy.parameters())
optimizer = Adam(1e-3)


def huber(a, b):
    d = mx.abs(a - b)
    return mx.mean(mx.where(d < 1, 0.5 * d * d, d - 0.5))


def loss_fn(rows):
    values = mx.take_along_axis(policy(states[rows]), actions[rows][:, None], axis=1).squeeze(1)
    ahead = mx.stop_gradient(target(following[rows]).max(axis=1))
    return huber(values, rewards[rows] + 0.9 * ahead)


grad = nn.value_and_grad(policy, loss_fn)
for step in range(8):
    loss, grads = grad(mx.random.randint(0, 100, (16,)))
    grads = tree_map(lambda g: mx.clip(g, -0.01, 0.01), grads)
    optimizer.update(policy, grads)
    if step % 2 == 1:
        target.update(policy.parameters())
    mx.eval(policy.parameters(), target.parameters())
