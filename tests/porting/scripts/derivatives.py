"""Derivatives by inputs within a loss: a critic with a gradient penalty, a net that solves a
differential equation."""

import math

import numpy as np
import torch
import torch.nn as nn
from torch import autograd


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x)


def gradient_penalty(critic, real, fake, alpha):
    """How far the critic's slope between real and fake points is from one."""
    mixed = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    d_mixed = critic(mixed)
    ones = torch.ones(real.size(0), 1, requires_grad=False)
    # the slope at each point
    slope = autograd.grad(
        outputs=d_mixed,
        inputs=mixed,
        grad_outputs=ones,
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    slope = slope.view(slope.size(0), -1)
    return ((slope.norm(2, dim=1) - 1) ** 2).mean()


class Heat(nn.Module):
    """u(x, t), trained to satisfy u_t = 0.1 u_xx."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 24)
        self.middle = nn.Linear(24, 24)
        self.out = nn.Linear(24, 1)

    def forward(self, x, t):
        z = torch.tanh(self.hidden(torch.cat([x, t], dim=1)))
        return self.out(torch.tanh(self.middle(z)))


def residual(net, x, t):
    x.requires_grad = True
    t.requires_grad = True
    u = net(x, t)
    u_t = torch.autograd.grad(u, t, grad_outputs=torch.ones_like(u), create_graph=True)[0]
    u_x = torch.autograd.grad(u, x, grad_outputs=torch.ones_like(u), create_graph=True)[0]
    u_xx = torch.autograd.grad(u_x.sum(), x, create_graph=True)[0]
    return u_t - 0.1 * u_xx


def build():
    return Critic(), Heat()


def run(critic, heat):
    draw = np.random.RandomState(0)
    numbers = []
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.05)
    for _ in range(25):
        real = torch.from_numpy(draw.randn(16, 2).astype(np.float32))
        fake = torch.from_numpy(draw.rand(16, 2).astype(np.float32) + 2)
        alpha = torch.from_numpy(draw.rand(16, 1).astype(np.float32))
        optimizer.zero_grad()
        penalty = gradient_penalty(critic, real, fake, alpha)
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        loss.backward()
        optimizer.step()
        numbers += [loss.item(), penalty.item()]

    solver = torch.optim.Adam(heat.parameters(), lr=1e-2)
    for _ in range(25):
        x = torch.from_numpy(draw.rand(32, 1).astype(np.float32))
        t = torch.from_numpy(draw.rand(32, 1).astype(np.float32))
        start = torch.sin(math.pi * x)
        solver.zero_grad()
        equation = residual(heat, x, t).pow(2).mean()
        boundary = (heat(x, torch.zeros_like(x)) - start).pow(2).mean()
        loss = equation + boundary
        loss.backward()
        solver.step()
        numbers += [loss.item(), equation.item()]
    return numbers
