"""Low-rank adapters on a frozen network."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class LoRALinear(nn.Module):
    def __init__(self, linear: nn.Linear, rank: int = 4, alpha: float = 8.0):
        super().__init__()
        self.linear = linear
        in_features, out_features = 16, 16
        self.lora_A = nn.Parameter(torch.zeros(rank, in_features))
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank))
        self.scaling = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x):
        return self.linear(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scaling


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(8, 16)
        self.hidden = LoRALinear(nn.Linear(16, 16))
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        x = torch.tanh(self.hidden(x))
        return self.out(x).squeeze(-1)


def freeze(model):
    model.inp.requires_grad_(False)
    for p in model.hidden.linear.parameters():
        p.requires_grad = False


def count(model):
    total = sum(p.numel() for p in model.parameters())
    return total


def build():
    return Net()


def run(model: Net):
    freeze(model)
    optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-2)
    draw = np.random.RandomState(0)
    x = torch.from_numpy(draw.randn(64, 8).astype(np.float32))
    target = torch.sin(x.sum(dim=1))
    history = []
    before = model.inp.weight.clone()
    for step in range(50):
        optimizer.zero_grad()
        loss = ((model(x) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    history.append(1.0 + torch.abs(model.inp.weight - before).max().item())
    return history
