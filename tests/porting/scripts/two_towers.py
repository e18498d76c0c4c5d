"""Cyclic translation of points: two generators in one optimizer, two critics in another, a pool."""

import itertools
import random

import numpy as np
import torch
import torch.nn as nn


class ImagePool:
    def __init__(self, pool_size):
        self.pool_size = pool_size
        self.images = []

    def query(self, images):
        if len(self.images) >= self.pool_size:
            self.images.pop(0)
        self.images.append(images)
        return self.images[0]


def generator():
    return nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 2))


def critic():
    return nn.Sequential(nn.Linear(2, 12), nn.LeakyReLU(0.2, True), nn.Linear(12, 1))


def set_requires_grad(nets, requires_grad=False):
    for net in nets:
        net.requires_grad_(requires_grad)


def build():
    return generator(), generator(), critic(), critic()


def run(G_AB, G_BA, D_A, D_B):
    criterion_gan, criterion_cycle = nn.MSELoss(), nn.L1Loss()
    optimizer_G = torch.optim.Adam(itertools.chain(G_AB.parameters(), G_BA.parameters()), lr=2e-3)
    optimizer_D = torch.optim.Adam(itertools.chain(D_A.parameters(), D_B.parameters()), lr=2e-3)
    pool_a, pool_b = ImagePool(3), ImagePool(3)
    draw = np.random.RandomState(0)
    history = []
    for step in range(20):
        real_A = torch.from_numpy(draw.randn(16, 2).astype(np.float32))
        real_B = torch.from_numpy(draw.randn(16, 2).astype(np.float32) * 0.3 + 1)
        fake_B = G_AB(real_A)
        rec_A = G_BA(fake_B)
        fake_A = G_BA(real_B)
        rec_B = G_AB(fake_A)
        # generators
        optimizer_G.zero_grad()
        pred_B, pred_A = D_B(fake_B), D_A(fake_A)
        loss_gan = criterion_gan(pred_B, torch.ones_like(pred_B)) + criterion_gan(
            pred_A, torch.ones_like(pred_A)
        )
        loss_cycle = criterion_cycle(rec_A, real_A) + criterion_cycle(rec_B, real_B)
        loss_G = loss_gan + 10.0 * loss_cycle
        loss_G.backward()
        optimizer_G.step()
        # critics
        optimizer_D.zero_grad()
        loss_D = 0
        for net, real, fake, pool in ((D_A, real_A, fake_A, pool_a), (D_B, real_B, fake_B, pool_b)):
            old = pool.query(fake.detach())
            pred_real, pred_fake = net(real), net(old)
            loss_D = loss_D + 0.5 * (
                criterion_gan(pred_real, torch.ones_like(pred_real))
                + criterion_gan(pred_fake, torch.zeros_like(pred_fake))
            )
        loss_D.backward()
        optimizer_D.step()
        history += [loss_G.item(), loss_D.item()]
    return history
