"""A generative adversarial network on points of a ring."""

import math

import torch
from torch import nn, optim


class Generator(nn.Module):
    def __init__(self, latent=8):
        super(Generator, self).__init__()

        def block(inp, out, normalize=True):
            layers = [nn.Linear(inp, out)]
            if normalize:
                layers.append(nn.BatchNorm1d(out, 0.8))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(latent, 16, normalize=False), *block(16, 32), nn.Linear(32, 2)
        )

    def forward(self, z):
        return self.model(z)


class Discriminator(nn.Module):
    def __init__(self):
        super(Discriminator, self).__init__()
        self.model = nn.Sequential(
            nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1), nn.Sigmoid()
        )

    def forward(self, points):
        return self.model(points)


torch.manual_seed(0)
adversarial_loss = nn.BCELoss()
generator, discriminator = Generator(), Discriminator()
optimizer_G = optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
optimizer_D = optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))

for i in range(50):
    angle = torch.rand(32) * 2 * math.pi
    real_points = torch.stack([angle.cos(), angle.sin()], dim=1)
    valid = torch.ones(32, 1)
    fake = torch.zeros(32, 1)

    optimizer_G.zero_grad()
    z = torch.randn(32, 8)
    gen_points = generator(z)
    g_loss = adversarial_loss(discriminator(gen_points), valid)
    g_loss.backward()
    optimizer_G.step()

    optimizer_D.zero_grad()
    real_loss = adversarial_loss(discriminator(real_points), valid)
    fake_loss = adversarial_loss(discriminator(gen_points.detach()), fake)
    d_loss = (real_loss + fake_loss) / 2
    d_loss.backward()
    optimizer_D.step()
    if i % 10 == 0:
        print("[%d/50] D %.4f G %.4f" % (i, d_loss.item(), g_loss.item()))
