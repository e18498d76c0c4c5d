"""Two networks with an optimizer each; the discriminator sees noise that is drawn for both."""

import torch
import torch.nn as nn

torch.manual_seed(0)
real = torch.randn(40, 6)
G = nn.Sequential(
    nn.Linear(4, 12), nn.LeakyReLU(0.2), nn.BatchNorm1d(12), nn.Linear(12, 6), nn.Tanh()
)
D = nn.Sequential(nn.Linear(6, 12), nn.LeakyReLU(0.2), nn.Linear(12, 1))
loss_fn = nn.BCEWithLogitsLoss()
opt_g = torch.optim.Adam(G.parameters(), lr=2e-3, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
for step in range(5):
    x = real[step * 8 : step * 8 + 8]
    noise = torch.randn(8, 4)
    fake = G(noise).detach()
    opt_d.zero_grad()
    loss_d = loss_fn(D(x), torch.ones(8, 1)) + loss_fn(D(fake), torch.zeros(8, 1))
    loss_d.backward()
    opt_d.step()
    noise = torch.randn(8, 4)
    opt_g.zero_grad()
    loss_g = loss_fn(D(G(noise)), torch.ones(8, 1))
    loss_g.backward()
    opt_g.step()
