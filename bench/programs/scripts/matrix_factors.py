"""Ratings from factors and biases; early stopping on held-out ratings."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class MF(nn.Module):
    def __init__(self, users, items, dim=6):
        super().__init__()
        self.user_factors = nn.Embedding(users, dim)
        self.item_factors = nn.Embedding(items, dim)
        self.user_bias = nn.Embedding(users, 1)
        self.item_bias = nn.Embedding(items, 1)
        self.mean = nn.Parameter(torch.tensor(3.0))
        for emb in (self.user_factors, self.item_factors):
            nn.init.normal_(emb.weight, std=0.1)
        for emb in (self.user_bias, self.item_bias):
            nn.init.zeros_(emb.weight)

    def forward(self, u, i):
        dot = (self.user_factors(u) * self.item_factors(i)).sum(1)
        return dot + self.user_bias(u).squeeze(1) + self.item_bias(i).squeeze(1) + self.mean


torch.manual_seed(0)
users, items = torch.randint(0, 20, (400,)), torch.randint(0, 15, (400,))
ratings = 3 + torch.sin(users.float()) + torch.cos(items.float())
train_set, val_set = random_split(TensorDataset(users, items, ratings), [320, 80])
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=80)
model = MF(20, 15)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-5)
criterion = nn.MSELoss()
best, patience = float("inf"), 0
for epoch in range(8):
    model.train()
    for u, i, r in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(u, i), r)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val = sum(criterion(model(u, i), r).item() for u, i, r in val_loader)
    print(epoch, loss.item(), val)
    if val < best:
        best, patience = val, 0
    else:
        patience += 1
        if patience > 2:
            break
