"""A network that follows a slow copy of itself, whose output has no gradient."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
data = torch.randn(48, 8)
online = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
predictor = nn.Linear(8, 8)
target = copy.deepcopy(online)
for p in target.parameters():
    p.requires_grad_(False)
params = [*online.parameters(), *predictor.parameters()]
optimizer = torch.optim.AdamW(params, lr=3e-3, weight_decay=0.05, eps=1e-6)
for i in range(0, 48, 8):
    x = data[i : i + 8]
    one, two = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
    guess = predictor(online(one))
    with torch.no_grad():
        aim = target(two)
    pull = online(x)
    loss = (
        2
        - 2 * F.cosine_similarity(guess, aim, dim=-1).mean()
        + (guess.detach() - pull).pow(2).mean()
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(target.parameters(), online.parameters(), strict=False):
            slow.mul_(0.9).add_(fast, alpha=0.1)
