"""A physics-informed network: derivatives of the answer with respect to the input in the loss."""

import torch
import torch.nn as nn


class PINN(nn.Module):
    def __init__(self, width=16, depth=2):
        super().__init__()
        layers = [nn.Linear(1, width), nn.Tanh()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.Tanh()]
        layers.append(nn.Linear(width, 1))
        self.net = nn.Sequential(*layers)

    def forward(self, t):
        return self.net(t)


def residual(model, t):
    u = model(t)
    du = torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)[0]
    return du + u


torch.manual_seed(0)
model = PINN()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
t0 = torch.zeros(1, 1)
for step in range(40):
    t = (2 * torch.rand(32, 1)).requires_grad_(True)
    loss_physics = residual(model, t).pow(2).mean()
    loss_start = (model(t0) - 1.0).pow(2).mean()
    loss = loss_physics + 10 * loss_start
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(step, loss.item())
