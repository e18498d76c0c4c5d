"""Sentences by convolutions of several widths; packed by a collate function; early stopping."""

import random
from typing import List, Tuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Sentences(Dataset):
    def __init__(self, count: int, seed: int = 0):
        rng = random.Random(seed)
        self.rows: List[Tuple[List[int], int]] = []
        for _ in range(count):
            words = [rng.randint(1, 29) for _ in range(rng.randint(5, 12))]
            self.rows.append((words, int(sum(words) % 2 == 0)))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, idx):
        return self.rows[idx]


def collate(batch):
    longest = max(len(words) for words, _ in batch)
    texts = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.zeros(len(batch), dtype=torch.long)
    for i, (words, label) in enumerate(batch):
        texts[i, : len(words)] = torch.tensor(words)
        labels[i] = label
    return texts, labels


class TextCNN(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_filters, filter_sizes, num_classes):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=0)
        self.convs = nn.ModuleList(
            [nn.Conv2d(1, num_filters, (size, embed_dim)) for size in filter_sizes]
        )
        self.dropout = nn.Dropout(p=0.0)
        self.fc = nn.Linear(num_filters * len(filter_sizes), num_classes)

    def conv_and_pool(self, x, conv):
        x = F.relu(conv(x)).squeeze(3)
        x = F.max_pool1d(x, x.size(2)).squeeze(2)
        return x

    def forward(self, x):
        out = self.embedding(x).unsqueeze(1)
        out = torch.cat([self.conv_and_pool(out, conv) for conv in self.convs], 1)
        out = self.dropout(out)
        return self.fc(out)


def evaluate(model, loader):
    model.eval()
    losses, hits, total = [], 0, 0
    with torch.no_grad():
        for texts, labels in loader:
            outputs = model(texts)
            losses.append(F.cross_entropy(outputs, labels).item())
            hits += (torch.max(outputs, 1)[1] == labels).sum().item()
            total += labels.size(0)
    return float(np.mean(losses)), hits / total


def build():
    return TextCNN(30, 8, 4, (2, 3), 2)


def run(model):
    loader = DataLoader(Sentences(160), batch_size=16, collate_fn=collate)
    dev = DataLoader(Sentences(32, seed=1), batch_size=16, collate_fn=collate)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    best, patience, history = float("inf"), 0, []
    for epoch in range(4):
        model.train()
        for texts, labels in loader:
            outputs = model(texts)
            model.zero_grad()
            loss = F.cross_entropy(outputs, labels)
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        dev_loss, dev_acc = evaluate(model, dev)
        history.extend([dev_loss, 1 + dev_acc])
        if dev_loss < best:
            best, patience = dev_loss, 0
        else:
            patience += 1
            if patience > 3:
                break
    return history
