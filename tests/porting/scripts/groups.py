"""Fine-tuning: a frozen trunk, groups of parameters with their own rates, a one-cycle schedule."""

import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR


class Trunk(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Linear(8, width)
        self.norm = nn.LayerNorm(width)
        self.scale = nn.Parameter(torch.full((width,), 0.5), requires_grad=False)
        self.register_buffer("shift", torch.linspace(-1, 1, width))

    def forward(self, x):
        return self.norm(F.gelu(self.stem(x))) * self.scale + self.shift


class Classifier(nn.Module):
    def __init__(self, width=16, classes=3):
        super().__init__()
        self.trunk = Trunk(width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(self.trunk(x))))

    def grouped(self, decay, lr):
        with_decay, without = [], []
        for name, p in self.named_parameters():
            if not p.requires_grad:
                continue
            if p.dim() >= 2:
                with_decay.append(p)
            else:
                without.append(p)
        groups = [
            {"params": with_decay, "weight_decay": decay},
            {"params": without, "weight_decay": 0.0, "lr": lr * 2},
        ]
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


def build():
    return Classifier()


def batches(steps):
    for step in range(steps):
        x = torch.sin(torch.arange(48, dtype=torch.float32).view(6, 8) * 0.3 + step)
        yield x, torch.tensor([0, 1, 2, 0, 1, 2])


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def train(model, optimizer, schedule, steps):
    losses = []
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(loss.item())
        losses.append(optimizer.param_groups[-1]["lr"])
    return losses


def run(model):
    results = []
    # first the head alone
    for name, p in model.named_parameters():
        if not name.startswith("head"):
            p.requires_grad = False
    results.append(count(model))
    head = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)
    results += train(model, head, None, 5)
    # then all but the scale
    for name, p in model.named_parameters():
        p.requires_grad = "scale" not in name
    results.append(count(model))
    both = model.grouped(0.1, 1e-3)
    results += train(model, both, OneCycleLR(both, [0.01, 0.02], total_steps=20), 20)
    # and the last layers faster than the trunk
    parts = torch.optim.Adam(
        [
            {"params": model.trunk.parameters(), "lr": 1e-4},
            {"params": itertools.chain(model.hidden.parameters(), model.head.parameters())},
        ],
        lr=1e-3,
    )
    slower = LambdaLR(parts, [lambda n: 0.9**n, lambda n: 0.8**n])
    results += train(model, parts, slower, 10)
    for group in parts.param_groups:
        group["lr"] = 0.003
    results += train(model, parts, None, 5)
    return results + [model.trunk.scale.sum().item(), model.trunk.shift.abs().sum().item()]
