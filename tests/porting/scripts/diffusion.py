"""A denoiser of points: sinusoidal time embeddings, noise schedules by cumulative products."""

import math

import numpy as np
import torch
import torch.nn as nn


class SinusoidalPositionEmbeddings(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        device = time.device
        half_dim = self.dim // 2
        embeddings = math.log(10000) / (half_dim - 1)
        embeddings = torch.exp(torch.arange(half_dim, device=device) * -embeddings)
        embeddings = time[:, None] * embeddings[None, :]
        embeddings = torch.cat((embeddings.sin(), embeddings.cos()), dim=-1)
        return embeddings


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff = nn.Linear(size, size)
        self.act = nn.SiLU()

    def forward(self, x):
        return x + self.act(self.ff(x))


class Denoiser(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.time_mlp = nn.Sequential(
            SinusoidalPositionEmbeddings(16), nn.Linear(16, hidden), nn.GELU()
        )
        self.input = nn.Linear(2, hidden)
        self.blocks = nn.ModuleList()
        for _ in range(3):
            self.blocks.append(Block(hidden))
        self.output = nn.Linear(hidden, 2)

    def forward(self, x, t):
        h = self.input(x) + self.time_mlp(t)
        for i, block in enumerate(self.blocks):
            h = block(h)
        return self.output(h)


class NoiseScheduler:
    def __init__(self, num_timesteps=50, beta_start=0.0001, beta_end=0.02):
        self.betas = torch.linspace(beta_start, beta_end, num_timesteps)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, axis=0)
        self.sqrt_alphas_cumprod = self.alphas_cumprod**0.5
        self.sqrt_one_minus_alphas_cumprod = (1 - self.alphas_cumprod) ** 0.5

    def add_noise(self, x_start: torch.Tensor, x_noise: torch.Tensor, timesteps: torch.Tensor):
        s1 = self.sqrt_alphas_cumprod[timesteps].reshape(-1, 1)
        s2 = self.sqrt_one_minus_alphas_cumprod[timesteps].reshape(-1, 1)
        return s1 * x_start + s2 * x_noise


def build():
    return Denoiser()


def run(model):
    noise_scheduler = NoiseScheduler()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    draw = np.random.RandomState(0)
    losses = []
    model.train()
    for step in range(50):
        angle = draw.rand(32) * 6.28
        batch = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32))
        noise = torch.from_numpy(draw.randn(32, 2).astype(np.float32))
        timesteps = torch.from_numpy(draw.randint(0, 50, (32,))).long()
        noisy = noise_scheduler.add_noise(batch, noise, timesteps)
        noise_pred = model(noisy, timesteps)
        loss = torch.nn.functional.mse_loss(noise_pred, noise)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach().item())
    return losses
