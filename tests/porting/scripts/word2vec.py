"""Skip-grams with negative samples, plain SGD with a linear decay, nearest neighbours."""

from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

CORPUS = (
    "a king and a queen live in a castle the king rules the queen rules "
    "a dog and a cat live in a house the dog barks the cat sleeps "
) * 6


class SkipGram(nn.Module):
    def __init__(self, vocab_size, dim):
        super().__init__()
        self.in_embed = nn.Embedding(vocab_size, dim)
        self.out_embed = nn.Embedding(vocab_size, dim)
        initrange = 0.5 / dim
        self.in_embed.weight.data.uniform_(-initrange, initrange)
        self.out_embed.weight.data.zero_()

    def forward(self, center, context, negatives):
        v = self.in_embed(center)
        u = self.out_embed(context)
        n = self.out_embed(negatives)
        positive = F.logsigmoid(torch.sum(u * v, dim=1))
        negative = F.logsigmoid(-torch.bmm(n, v.unsqueeze(2)).squeeze(2)).sum(1)
        return -(positive + negative).mean()


def pairs(ids, window):
    for i, center in enumerate(ids):
        for j in range(max(0, i - window), min(len(ids), i + window + 1)):
            if j != i:
                yield center, ids[j]


def build():
    return SkipGram(len(set(CORPUS.split())), 8)


def run(model):
    words = CORPUS.split()
    counts = Counter(words)
    index = {w: i for i, (w, _) in enumerate(sorted(counts.items()))}
    data = np.array(list(pairs([index[w] for w in words], 2)))
    draw = np.random.RandomState(0)
    total = 50
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    history = []
    for step in range(total):
        rows = data[draw.randint(0, len(data), 64)]
        center, context = torch.tensor(rows[:, 0]), torch.tensor(rows[:, 1])
        negatives = torch.tensor(draw.randint(0, len(index), (64, 4)))
        loss = model(center, context, negatives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for g in optimizer.param_groups:
            g["lr"] = 0.5 * (1 - (step + 1) / total) + 1e-3
        history.append(loss.item())
    vectors = F.normalize(model.in_embed.weight.detach(), dim=1)
    similar = vectors @ vectors[index["king"]]
    best = similar.argsort(descending=True)[:3].tolist()
    history.append(float(len(best)))
    return history
