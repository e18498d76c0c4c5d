"""A temporal convolutional network with normalised weights and residual blocks."""

import torch
import torch.nn as nn
from torch.nn.utils.parametrizations import weight_norm


class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    def __init__(self, n_inputs, n_outputs, kernel_size, dilation, dropout=0.1):
        super().__init__()
        padding = (kernel_size - 1) * dilation
        self.conv = weight_norm(
            nn.Conv1d(n_inputs, n_outputs, kernel_size, padding=padding, dilation=dilation)
        )
        self.net = nn.Sequential(self.conv, Chomp1d(padding), nn.ReLU(), nn.Dropout(dropout))
        self.downsample = nn.Conv1d(n_inputs, n_outputs, 1) if n_inputs != n_outputs else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


torch.manual_seed(0)
series = torch.sin(torch.arange(200) * 0.3) + 0.1 * torch.randn(200)
windows = series.unfold(0, 21, 3).unsqueeze(1)
x, y = windows[:, :, :-1], windows[:, 0, -1]
model = nn.Sequential(
    TemporalBlock(1, 8, 3, 1),
    TemporalBlock(8, 8, 3, 2),
    nn.AdaptiveAvgPool1d(1),
    nn.Flatten(),
    nn.Linear(8, 1),
)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(30):
    optimizer.zero_grad()
    loss = (model(x).squeeze(1) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(step, loss.item())
