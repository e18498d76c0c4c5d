"""Sequences of different lengths through packed recurrent layers."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class Tagger(nn.Module):
    def __init__(self, tokens=12, width=10, tags=4):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width, padding_idx=0)
        self.rnn = nn.GRU(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * width, tags)
        self.whole = nn.Linear(2 * width, 2)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        hidden, last = self.rnn(packed)
        hidden, _ = pad_packed_sequence(hidden, batch_first=True)
        both = torch.cat([last[-2], last[-1]], dim=-1)
        return self.out(hidden), self.whole(both)


def build():
    return Tagger()


def run(model):
    sentences = [torch.arange(1, n + 1) for n in (5, 8, 3, 6)]
    tokens = pad_sequence(sentences, batch_first=True, padding_value=0)
    tags = pad_sequence([s % 4 for s in sentences], batch_first=True, padding_value=-100)
    lengths = torch.tensor([len(s) for s in sentences])
    kinds = torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        scores, whole = model(tokens, lengths)
        loss = F.cross_entropy(scores.transpose(1, 2), tags, ignore_index=-100)
        loss = loss + 0.5 * F.cross_entropy(whole, kinds)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
