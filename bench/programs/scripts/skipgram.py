"""Word vectors by negative sampling."""

from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

CORPUS = ("the cat sat on the mat the dog sat on the log the cat saw the dog " * 8).split()


class SkipGram(nn.Module):
    def __init__(self, vocab_size, emb_dim):
        super().__init__()
        self.u = nn.Embedding(vocab_size, emb_dim)
        self.v = nn.Embedding(vocab_size, emb_dim)
        initrange = 0.5 / emb_dim
        self.u.weight.data.uniform_(-initrange, initrange)
        self.v.weight.data.zero_()

    def forward(self, pos_u, pos_v, neg_v):
        emb_u, emb_v, emb_neg = self.u(pos_u), self.v(pos_v), self.v(neg_v)
        score = torch.clamp(torch.sum(emb_u * emb_v, dim=1), max=10, min=-10)
        neg = torch.clamp(torch.bmm(emb_neg, emb_u.unsqueeze(2)).squeeze(), max=10, min=-10)
        return torch.mean(-F.logsigmoid(score) - torch.sum(F.logsigmoid(-neg), dim=1))


counts = Counter(CORPUS)
words = sorted(counts)
index = {word: i for i, word in enumerate(words)}
power = np.array([counts[w] for w in words]) ** 0.75
rng = np.random.RandomState(0)
ids = [index[w] for w in CORPUS]
pairs = [
    (ids[i], ids[j])
    for i in range(len(ids))
    for j in range(max(0, i - 2), min(len(ids), i + 3))
    if i != j
]
torch.manual_seed(0)
model = SkipGram(len(words), 8)
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
for step in range(40):
    chosen = [pairs[i] for i in rng.randint(0, len(pairs), 32)]
    pos_u = torch.LongTensor([u for u, _ in chosen])
    pos_v = torch.LongTensor([v for _, v in chosen])
    neg_v = torch.LongTensor(rng.choice(len(words), size=(32, 4), p=power / power.sum()))
    optimizer.zero_grad()
    loss = model(pos_u, pos_v, neg_v)
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(step, loss.item())
