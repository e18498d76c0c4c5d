"""A language model with tied weights in a ModuleDict, stepped by hand as in old tutorials."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class Mixer(nn.Module):
    def __init__(self, width, length):
        super().__init__()
        self.across = nn.Linear(length, length)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            dict(up=nn.Linear(width, 2 * width), down=nn.Linear(2 * width, width))
        )

    def forward(self, x):
        x = x + self.across(x.transpose(1, 2)).transpose(1, 2)
        return x + self.mlp.down(F.gelu(self.mlp["up"](self.norm(x))))


class Model(nn.Module):
    def __init__(self, tokens=11, width=12, length=6):
        super().__init__()
        self.body = nn.ModuleDict(
            {
                "wte": nn.Embedding(tokens, width),
                "h": nn.ModuleList([Mixer(width, length) for _ in range(2)]),
                "ln": nn.LayerNorm(width),
            }
        )
        self.head = nn.Linear(width, tokens, bias=False)
        self.body.wte.weight = self.head.weight  # one matrix
        for name, p in self.named_parameters():
            if name.endswith("down.weight"):
                nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(4))

    def forward(self, ids):
        x = self.body.wte(ids)
        for block in self.body.h:
            x = block(x)
        return self.head(self.body.ln(x))

    def size(self):
        return sum(p.numel() for p in self.parameters())


def build():
    return Model()


def run(model):
    ids = (torch.arange(48).view(8, 6) * 5 + torch.arange(8).view(8, 1)) % 11
    losses, lr = [model.size()], 0.5
    for step in range(30):
        model.zero_grad()
        logits = model(ids)
        loss = F.cross_entropy(logits.reshape(-1, 11), ids.roll(-1, 1).reshape(-1))
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
        if step == 15:
            lr = 0.1
        losses.append(loss.item())
    model.zero_grad()
    for step in range(10):
        loss = F.cross_entropy(model(ids).reshape(-1, 11), ids.reshape(-1))
        loss.backward()
        for name, p in model.named_parameters():
            if "norm" not in name:
                p.data = p.data - 0.1 * p.grad.data
            p.grad = None
        losses.append(loss.item())
    return losses + [(model.head.weight - model.body.wte.weight).abs().sum().item()]
