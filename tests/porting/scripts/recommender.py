"""Matrix factorisation with biases, negative samples and a ranking loss."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim


class MF(nn.Module):
    def __init__(self, n_users, n_items, emb_dim=8):
        super().__init__()
        self.user_emb = nn.Embedding(n_users, emb_dim)
        self.item_emb = nn.Embedding(n_items, emb_dim)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        self.global_bias = nn.Parameter(torch.tensor(0.0))
        self.user_emb.weight.data.uniform_(-0.05, 0.05)
        nn.init.normal_(self.item_emb.weight, std=0.05)
        nn.init.constant_(self.user_bias.weight, 0)

    def forward(self, users, items):
        u, i = self.user_emb(users), self.item_emb(items)
        bu, bi = self.user_bias(users).squeeze(), self.item_bias(items).squeeze()
        return (u * i).sum(1) + bu + bi + self.global_bias


def bpr_loss(pos, neg):
    return -F.logsigmoid(pos - neg).mean()


def build():
    return MF(20, 30)


def run(model):
    rng = np.random.default_rng(0)
    optimizer = optim.Adagrad(model.parameters(), lr=0.1)
    history = []
    for step in range(40):
        users = torch.LongTensor(rng.integers(0, 20, 32))
        pos = torch.LongTensor(rng.integers(0, 15, 32))
        neg = torch.LongTensor(rng.integers(15, 30, 32))
        pos_score, neg_score = model(users, pos), model(users, neg)
        reg = sum(torch.norm(p) ** 2 for p in [model.user_emb.weight, model.item_emb.weight])
        loss = bpr_loss(pos_score, neg_score) + 1e-4 * reg
        model.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    scores = torch.matmul(model.user_emb.weight, model.item_emb.weight.T).detach()
    top = torch.topk(scores, k=5, dim=1).indices
    history.append(1.0 + top.shape[1] + (top < 15).float().mean().item())
    return history
