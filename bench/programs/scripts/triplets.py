"""Embeddings from triplets, with a dataset of its own and a collate function."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Triplets(Dataset):
    def __init__(self, count=96, classes=4, seed=0):
        rng = np.random.default_rng(seed)
        self.centers = rng.normal(size=(classes, 5)).astype(np.float32) * 2
        self.labels = rng.integers(0, classes, size=count)
        noise = rng.normal(size=(count, 5)).astype(np.float32)
        self.points = self.centers[self.labels] + 0.3 * noise
        self.pairs = [self._pair(i, rng) for i in range(count)]

    def _pair(self, i, rng):
        same = np.flatnonzero(self.labels == self.labels[i])
        other = np.flatnonzero(self.labels != self.labels[i])
        return int(rng.choice(same)), int(rng.choice(other))

    def __len__(self):
        return len(self.points)

    def __getitem__(self, i):
        p, n = self.pairs[i]
        return self.points[i], self.points[p], self.points[n]


def collate(items):
    anchors, positives, negatives = zip(*items)
    return tuple(torch.from_numpy(np.stack(part)) for part in (anchors, positives, negatives))


torch.manual_seed(0)
loader = DataLoader(Triplets(), batch_size=16, shuffle=False, collate_fn=collate, drop_last=True)
net = nn.Sequential(nn.Linear(5, 16), nn.PReLU(), nn.Linear(16, 3))
criterion = nn.TripletMarginLoss(margin=1.0, p=2)
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(8):
    losses = []
    for anchor, positive, negative in loader:
        optimizer.zero_grad()
        loss = criterion(net(anchor), net(positive), net(negative))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {np.mean(losses):.4f}")
