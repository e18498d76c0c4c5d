"""A normalising flow of coupling layers: log determinants, sampling by the inverse."""

import math

import numpy as np
import torch
import torch.nn as nn


class Coupling(nn.Module):
    def __init__(self, dim, hidden, flip):
        super().__init__()
        self.flip = flip
        half = dim // 2
        self.net = nn.Sequential(nn.Linear(half, hidden), nn.Tanh(), nn.Linear(hidden, 2 * half))

    def forward(self, x):
        x1, x2 = x.chunk(2, dim=1)
        if self.flip:
            x1, x2 = x2, x1
        s, t = self.net(x1).chunk(2, dim=1)
        s = torch.tanh(s)
        y2 = x2 * torch.exp(s) + t
        y = torch.cat([y2, x1] if self.flip else [x1, y2], dim=1)
        return y, s.sum(dim=1)

    def inverse(self, y):
        y1, y2 = torch.split(y, y.size(1) // 2, dim=1)
        if self.flip:
            y1, y2 = y2, y1
        s, t = self.net(y1).chunk(2, 1)
        x2 = (y2 - t) * (-torch.tanh(s)).exp()
        return torch.cat([x2, y1] if self.flip else [y1, x2], dim=-1)


class RealNVP(nn.Module):
    def __init__(self, dim=4, hidden=16, layers=4):
        super().__init__()
        self.flows = nn.ModuleList([Coupling(dim, hidden, i % 2 == 1) for i in range(layers)])
        self.register_buffer("loc", torch.zeros(dim))

    def log_prob(self, x):
        log_det = torch.zeros(x.shape[0], device=x.device)
        for flow in self.flows:
            x, ld = flow(x)
            log_det += ld
        base = -0.5 * ((x - self.loc) ** 2 + math.log(2 * math.pi)).sum(-1)
        return base + log_det

    def sample(self, z):
        for flow in reversed(self.flows):
            z = flow.inverse(z)
        return z

    def forward(self, x):
        return self.log_prob(x)


def build():
    return RealNVP()


def run(flow):
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    draw = np.random.RandomState(0)
    history = []
    for it in range(40):
        z = draw.randn(64, 4).astype(np.float32)
        x = torch.tensor(z * np.array([1, 2, 0.5, 1], dtype=np.float32) + 0.3 * z[:, ::-1])
        optimizer.zero_grad()
        loss = -flow.log_prob(x).mean()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    with torch.no_grad():
        back = flow.sample(torch.from_numpy(draw.randn(16, 4).astype(np.float32)))
        history.append(10 + back.abs().mean().item())
    return history
