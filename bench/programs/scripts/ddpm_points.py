"""Denoising diffusion of points: a schedule in buffers, time embeddings, sampling at the end."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class TimeEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / (half - 1))
        args = t[:, None].float() * freqs[None]
        return torch.cat([args.sin(), args.cos()], dim=-1)


class Denoiser(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.time = nn.Sequential(TimeEmbedding(16), nn.Linear(16, width), nn.SiLU())
        self.inp = nn.Linear(2, width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, x, t):
        h = F.silu(self.inp(x) + self.time(t))
        return self.out(F.silu(self.mid(h)) + h)


class Diffusion(nn.Module):
    def __init__(self, model, steps=20):
        super().__init__()
        self.model, self.steps = model, steps
        betas = torch.linspace(1e-3, 0.2, steps)
        alphas = torch.cumprod(1 - betas, dim=0)
        self.register_buffer("betas", betas)
        self.register_buffer("alphas_cumprod", alphas)

    def q_sample(self, x0, t, noise):
        a = self.alphas_cumprod[t].unsqueeze(-1)
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    def forward(self, x0):
        t = torch.randint(0, self.steps, (x0.shape[0],), device=x0.device)
        noise = torch.randn_like(x0)
        return F.mse_loss(self.model(self.q_sample(x0, t, noise), t), noise)

    @torch.no_grad()
    def sample(self, n):
        x = torch.randn(n, 2)
        for i in reversed(range(self.steps)):
            t = torch.full((n,), i, dtype=torch.long)
            a, b = self.alphas_cumprod[i], self.betas[i]
            x = (x - b / (1 - a).sqrt() * self.model(x, t)) / (1 - b).sqrt()
            if i > 0:
                x = x + b.sqrt() * torch.randn_like(x)
        return x


torch.manual_seed(0)
diffusion = Diffusion(Denoiser())
optimizer = torch.optim.Adam(diffusion.parameters(), lr=2e-3)
for step in range(60):
    angle = torch.rand(32) * 2 * math.pi
    points = torch.stack((torch.cos(angle), torch.sin(angle)), dim=-1)
    loss = diffusion(points)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(step, loss.item())
print(diffusion.sample(8).norm(dim=1).mean().item())
