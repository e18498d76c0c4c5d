"""A classifier with dropout and a norm, trained by Adam on shuffled batches, evaluated between."""

import torch
import torch.nn as nn

torch.manual_seed(1)
X = torch.randn(64, 10)
Y = torch.randint(0, 3, (64,))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(10, 16)
        self.drop = nn.Dropout(0.2)
        self.norm = nn.LayerNorm(16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc2(self.drop(torch.relu(self.norm(self.fc1(x)))))


model = Net()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()
for _epoch in range(3):
    model.train()
    order = torch.randperm(64)
    for i in range(0, 64, 16):
        idx = order[i : i + 16]
        opt.zero_grad()
        loss = loss_fn(model(X[idx]), Y[idx])
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        print(loss_fn(model(X), Y).item())
