"""A mixture of experts with a router of the two best, and a loss that balances the load."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class MoE(nn.Module):
    def __init__(self, dim=8, experts=4, top_k=2):
        super().__init__()
        self.gate = nn.Linear(dim, experts, bias=False)
        self.experts = nn.ModuleList([Expert(dim, 16) for _ in range(experts)])
        self.top_k = top_k

    def forward(self, x):
        logits = self.gate(x)
        weights, chosen = torch.topk(logits, self.top_k, dim=-1)
        weights = F.softmax(weights, dim=-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            share = (weights * (chosen == i)).sum(dim=-1, keepdim=True)
            out = out + share * expert(x)
        probs = F.softmax(logits, dim=-1).mean(dim=0)
        load = F.one_hot(chosen[:, 0], probs.numel()).float().mean(dim=0)
        return out, probs.numel() * torch.sum(probs * load)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(5, 8)
        self.moe = MoE()
        self.norm = nn.RMSNorm(8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        h = self.inp(x)
        y, aux = self.moe(self.norm(h))
        return self.out(h + y).squeeze(-1), aux


torch.manual_seed(0)
x = torch.randn(128, 5)
y = torch.sin(x.sum(dim=-1))
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
for step in range(40):
    i = (step * 32) % 128
    pred, aux = model(x[i : i + 32])
    loss = F.huber_loss(pred, y[i : i + 32]) + 0.01 * aux
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(step, loss.item(), aux.item())
