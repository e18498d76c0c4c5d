"""A variational autoencoder: noise in the middle, a sum of two losses."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
data = torch.rand(48, 12)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(12, 16)
        self.mu = nn.Linear(16, 3)
        self.logvar = nn.Linear(16, 3)
        self.dec1 = nn.Linear(3, 16)
        self.dec2 = nn.Linear(16, 12)

    def forward(self, x):
        h = torch.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.dec2(torch.relu(self.dec1(z)))), mu, logvar


vae = VAE()
optimizer = torch.optim.Adam(vae.parameters(), lr=3e-3, weight_decay=1e-3)
for _epoch in range(3):
    for i in range(0, 48, 16):
        x = data[i : i + 16]
        optimizer.zero_grad()
        recon, mu, logvar = vae(x)
        bce = F.binary_cross_entropy(recon, x, reduction="sum")
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        (bce + kld).backward()
        optimizer.step()
