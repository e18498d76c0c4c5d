"""A small denoising network."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, inputs, outputs, width=32):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(width, outputs)
        self.norm = nn.GroupNorm(4, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x, t):
        h = self.conv1(x) + self.time(t)[:, :, None, None]
        return self.conv2(F.silu(self.norm(h)))


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32))
        self.down1 = Block(3, width)
        self.down2 = Block(width, 2 * width)
        self.middle = Block(2 * width, 2 * width)
        self.up1 = Block(4 * width, width)
        self.up2 = Block(2 * width, width)
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, x, t):
        t = self.embed(t[:, None])
        a = self.down1(x, t)
        b = self.down2(F.max_pool2d(a, 2), t)
        c = self.middle(F.max_pool2d(b, 2), t)
        c = F.interpolate(c, scale_factor=2, mode="nearest")
        d = self.up1(torch.cat([c, b], dim=1), t)
        d = F.interpolate(d, scale_factor=2, mode="nearest")
        return self.out(self.up2(torch.cat([d, a], dim=1), t))


def optimizer_of(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)


def train(model: Net, optimizer, batches):
    model.train()
    losses = []
    for x, t, noise in batches:
        mix = t[:, None, None, None]
        noisy = (1 - mix) * x + mix * noise
        optimizer.zero_grad()
        predicted = model(noisy, t)
        loss = F.mse_loss(predicted, noise)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
