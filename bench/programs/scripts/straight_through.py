"""An autograd.Function: binary activations whose gradient passes straight through."""

import torch
import torch.nn as nn


class BinarySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (x.abs() <= 1).to(grad_output.dtype)


class BinaryNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 24)
        self.fc2 = nn.Linear(24, 24)
        self.fc3 = nn.Linear(24, 2)

    def forward(self, x):
        x = BinarySign.apply(self.fc1(x))
        x = BinarySign.apply(self.fc2(x))
        return self.fc3(x)


torch.manual_seed(2)
x = torch.randn(96, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
model = BinaryNet()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(10):
    for i in range(0, 96, 24):
        optimizer.zero_grad()
        loss = criterion(model(x[i : i + 24]), y[i : i + 24])
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(-1.5, 1.5)
    print(epoch, loss.item())
