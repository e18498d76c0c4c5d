"""Least squares by plain gradient descent, whose gradients are never set to zero: heavy steps."""

import torch
import torch.nn as nn

torch.manual_seed(0)
x = torch.randn(40, 3)
y = x.sum(1, keepdim=True)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _step in range(6):
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
