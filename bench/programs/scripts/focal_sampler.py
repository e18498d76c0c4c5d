"""Rare classes: a focal loss of one's own, a balancing sampler, metrics by hand."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0, alpha=None, reduction="mean"):
        super(FocalLoss, self).__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.reduction = reduction

    def forward(self, inputs, targets):
        ce_loss = F.cross_entropy(inputs, targets, reduction="none", weight=self.alpha)
        pt = torch.exp(-ce_loss)
        focal_loss = ((1 - pt) ** self.gamma) * ce_loss
        if self.reduction == "mean":
            return focal_loss.mean()
        elif self.reduction == "sum":
            return focal_loss.sum()
        return focal_loss


torch.manual_seed(0)
y = (torch.rand(240) < 0.15).long()
x = torch.randn(240, 6) + y.unsqueeze(1) * 0.8
counts = torch.bincount(y)
sampler = WeightedRandomSampler((1.0 / counts.float())[y], num_samples=240, replacement=True)
loader = DataLoader(TensorDataset(x, y), batch_size=24, sampler=sampler)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.25), nn.Linear(12, 2))
criterion = FocalLoss(gamma=1.5, alpha=torch.tensor([0.4, 0.6]))
optimizer = torch.optim.NAdam(model.parameters(), lr=5e-3)
for epoch in range(6):
    model.train()
    for data, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        pred = model(x).argmax(dim=1)
        tp = ((pred == 1) & (y == 1)).sum().item()
        recall = tp / max(1, (y == 1).sum().item())
    print(f"epoch {epoch} loss {loss.item():.4f} recall {recall:.3f}")
