"""A linear classifier over a shuffled loader, with class weights and a stepped rate."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 12)
w = torch.randn(12, 3)
y = (x @ w).argmax(dim=1)
train_loader = DataLoader(TensorDataset(x[:192], y[:192]), batch_size=16, shuffle=True)
test_loader = DataLoader(TensorDataset(x[192:], y[192:]), batch_size=32)

model = nn.Linear(12, 3)
criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)

for epoch in range(9):
    model.train()
    running = 0.0
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running += loss.item() * inputs.size(0)
    scheduler.step()
    model.eval()
    correct = 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            correct += (model(inputs).argmax(1) == labels).sum().item()
    print(f"epoch {epoch}: loss {running / 192:.4f}, accuracy {correct / 64:.3f}")
