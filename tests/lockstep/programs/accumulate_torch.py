"""Gradients of four small batches make a step; Adagrad; the data is shuffled by a loader."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 5)
y = x @ torch.randn(5, 1) + 0.1 * torch.randn(64, 1)
loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True, num_workers=2)
net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.ELU(0.5), nn.Linear(8, 1))
optimizer = torch.optim.Adagrad(net.parameters(), lr=0.05, eps=1e-8)
optimizer.zero_grad()
for _epoch in range(2):
    for i, (a, b) in enumerate(loader):
        loss = nn.functional.smooth_l1_loss(net(a), b) / 4
        loss.backward()
        if (i + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
