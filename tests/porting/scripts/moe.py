"""A mixture of experts with top-2 gates and a loss that balances their load."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, x):
        return self.net(x)


class MoE(nn.Module):
    def __init__(self, dim, hidden, num_experts, k=2):
        super().__init__()
        self.k = k
        self.num_experts = num_experts
        self.experts = nn.ModuleList([Expert(dim, hidden) for _ in range(num_experts)])
        self.gate = nn.Linear(dim, num_experts, bias=False)

    def forward(self, x):
        logits = self.gate(x)
        probs = F.softmax(logits, dim=-1)
        topk_vals, topk_idx = torch.topk(probs, self.k, dim=-1)
        topk_vals = topk_vals / topk_vals.sum(dim=-1, keepdim=True)
        gates = torch.zeros_like(probs).scatter(1, topk_idx, topk_vals)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            out = out + gates[:, i].unsqueeze(-1) * expert(x)
        load = (gates > 0).float().mean(0)
        aux = self.num_experts * torch.sum(load * probs.mean(0))
        return out, aux


def build():
    return MoE(6, 12, 4)


def run(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    draw = np.random.RandomState(0)
    losses = []
    for step in range(50):
        x = torch.from_numpy(draw.randn(32, 6).astype(np.float32))
        y = torch.roll(x, 1, dims=1) * 0.5
        out, aux = model(x)
        mse = F.mse_loss(out, y)
        loss = mse + 0.01 * aux
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.item(), mse.item(), aux.item()]
    return losses
