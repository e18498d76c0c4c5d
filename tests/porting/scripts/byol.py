"""Self-supervision: an online network and a slow copy of it, updated in place under no_grad."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class MLP(nn.Module):
    def __init__(self, dim, projection_size, hidden_size=16):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_size, projection_size),
        )

    def forward(self, x):
        return self.net(x)


def loss_fn(x, y):
    x = F.normalize(x, dim=-1, p=2)
    y = F.normalize(y, dim=-1, p=2)
    return 2 - 2 * (x * y).sum(dim=-1)


def build():
    return MLP(8, 6), MLP(6, 6)


def run(online, predictor):
    target = copy.deepcopy(online)
    for p in target.parameters():
        p.requires_grad = False
    params = list(online.parameters()) + list(predictor.parameters())
    optimizer = torch.optim.SGD(
        list(online.parameters()) + list(predictor.parameters()), lr=0.05, momentum=0.9
    )
    draw = np.random.RandomState(0)
    history = [float(len(params))]
    for step in range(30):
        base = draw.randn(16, 8).astype(np.float32)
        view1 = torch.from_numpy(base + 0.1 * draw.randn(16, 8).astype(np.float32))
        view2 = torch.from_numpy(base + 0.1 * draw.randn(16, 8).astype(np.float32))
        online_pred_one = predictor(online(view1))
        online_pred_two = predictor(online(view2))
        with torch.no_grad():
            target_proj_one = target(view1)
            target_proj_two = target(view2)
        loss_one = loss_fn(online_pred_one, target_proj_two.detach())
        loss_two = loss_fn(online_pred_two, target_proj_one.detach())
        loss = (loss_one + loss_two).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state, slow = online.state_dict(), target.state_dict()
        for key in slow:
            if "num_batches" not in key:
                slow[key] = 0.9 * slow[key] + 0.1 * state[key]
        target.load_state_dict(slow)
        history.append(loss.item())
    return history
