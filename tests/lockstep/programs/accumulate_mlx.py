"""Gradients of four small batches, added up in a tree."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_map

mx.random.seed(0)
x = mx.random.normal((64, 5))
y = x @ mx.random.normal((5, 1)) + 0.1 * mx.random.normal((64, 1))
net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.ELU(0.5), nn.Linear(8, 1))
optimizer = optim.Adagrad(learning_rate=0.05, eps=1e-8)


def loss_fn(a, b):
    return nn.losses.smooth_l1_loss(net(a), b, reduction="mean") / 4


step = nn.value_and_grad(net, loss_fn)
total = None
for _epoch in range(2):
    order = np.random.permutation(64)
    for i in range(16):
        rows = mx.array(order[4 * i : 4 * i + 4])
        loss, grads = step(x[rows], y[rows])
        total = grads if total is None else tree_map(mx.add, total, grads)
        if (i + 1) % 4 == 0:
            optimizer.update(net, total)
            mx.eval(net.parameters(), optimizer.state)
            total = None
