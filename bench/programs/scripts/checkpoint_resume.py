"""A checkpoint is written halfway, read into new objects, and training goes on."""

import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F


class Regressor(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.hidden = nn.Linear(4, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(F.gelu(self.norm(self.hidden(x)))).squeeze(-1)


def train_epoch(model, optimizer, x, y):
    total = 0.0
    for xb, yb in zip(x.split(16), y.split(16)):
        optimizer.zero_grad()
        loss = F.l1_loss(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / 5


torch.manual_seed(0)
x = torch.randn(80, 4)
y = x.sum(dim=1).sin()
model = Regressor()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    print(epoch, train_epoch(model, optimizer, x, y))

path = os.path.join(tempfile.mkdtemp(), "checkpoint.pt")
torch.save({"epoch": 4, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)

checkpoint = torch.load(path)
resumed = Regressor()
resumed.load_state_dict(checkpoint["model"])
optimizer = torch.optim.Adam(resumed.parameters(), lr=1e-2)
optimizer.load_state_dict(checkpoint["optimizer"])
for epoch in range(checkpoint["epoch"], 8):
    print(epoch, train_epoch(resumed, optimizer, x, y))
