"""Sentences with padding masks through MultiheadAttention; positions learned; weights tied."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Encoder(nn.Module):
    def __init__(self, vocab, dim, heads, layers, max_len=16):
        super().__init__()
        self.token = nn.Embedding(vocab, dim, padding_idx=0)
        self.position = nn.Parameter(torch.zeros(1, max_len, dim))
        self.attn = nn.ModuleList(
            [nn.MultiheadAttention(dim, heads, batch_first=True) for _ in range(layers)]
        )
        self.ff = nn.ModuleList()
        self.norms = nn.ModuleDict()
        for i in range(layers):
            self.ff.append(
                nn.Sequential(nn.Linear(dim, 2 * dim), nn.ELU(), nn.Linear(2 * dim, dim))
            )
            self.norms[f"a{i}"] = nn.LayerNorm(dim)
            self.norms[f"b{i}"] = nn.LayerNorm(dim)
        self.query = nn.Parameter(torch.zeros(dim))
        self.decoder = nn.Linear(dim, vocab, bias=False)

    def forward(self, tokens):
        mask = tokens.eq(0)
        x = self.token(tokens) + self.position[:, : tokens.size(1)]
        for i, (attn, ff) in enumerate(zip(self.attn, self.ff)):
            h = self.norms[f"a{i}"](x)
            h, _ = attn(h, h, h, key_padding_mask=mask, need_weights=False)
            x = x + h
            x = x + ff(self.norms[f"b{i}"](x))
        scores = (x @ self.query).masked_fill(mask, -1e4)
        weights = scores.softmax(dim=-1)
        pooled = torch.einsum("bl,bld->bd", weights, x)
        return self.decoder(pooled), weights


def build():
    return Encoder(24, 12, 3, 2)


def run(model):
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    draw = np.random.RandomState(0)
    history = []
    for step in range(30):
        tokens = torch.from_numpy(draw.randint(1, 24, (8, 10)))
        lengths = torch.from_numpy(draw.randint(4, 11, (8,)))
        keep = torch.arange(10)[None, :] < lengths[:, None]
        tokens = torch.where(keep, tokens, torch.zeros_like(tokens))
        target = tokens.max(dim=1)[0]
        logits, weights = model(tokens)
        loss = F.cross_entropy(logits, target)
        entropy = -(weights * (weights + 1e-9).log()).sum(-1).mean()
        (loss - 0.01 * entropy).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        history += [loss.item(), entropy.item()]
    return history
