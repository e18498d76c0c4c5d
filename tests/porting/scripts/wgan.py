"""A Wasserstein GAN: several critic steps, clipped weights, RMSprop."""

import numpy as np
import torch
from torch import nn, optim


def mlp(sizes, last=None):
    layers = []
    for i in range(len(sizes) - 1):
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        if i < len(sizes) - 2:
            layers.append(nn.LeakyReLU(0.2))
    if last is not None:
        layers.append(last)
    return nn.Sequential(*layers)


def build():
    return mlp([4, 16, 2], nn.Tanh()), mlp([2, 16, 1])


def run(generator, critic):
    opt_g = optim.RMSprop(generator.parameters(), lr=5e-4)
    opt_c = optim.RMSprop(critic.parameters(), lr=5e-4)
    draw = np.random.RandomState(0)
    history = []
    for step in range(20):
        for _ in range(3):
            real = torch.from_numpy(draw.randn(32, 2).astype(np.float32) * 0.1 + 0.5)
            z = torch.from_numpy(draw.randn(32, 4).astype(np.float32))
            with torch.no_grad():
                fake = generator(z)
            loss_c = critic(fake).mean() - critic(real).mean()
            opt_c.zero_grad()
            loss_c.backward()
            opt_c.step()
            history.append(1 + loss_c.item())
        z = torch.from_numpy(draw.randn(32, 4).astype(np.float32))
        loss_g = -critic(generator(z)).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        history.append(1 + loss_g.item())
    return history
