"""Least squares; the gradients of all steps add up, as in torch without zero_grad."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

mx.random.seed(0)
x = mx.random.normal((40, 3))
y = x.sum(1, keepdims=True)
model = nn.Linear(3, 1)
held = None
for _step in range(6):
    loss, grads = nn.value_and_grad(model, lambda: mx.mean(mx.square(model(x) - y)))()
    held = grads if held is None else tree_map(mx.add, held, grads)
    model.update(tree_map(lambda p, g: p - 0.01 * g, model.trainable_parameters(), held))
    mx.eval(model.parameters())
