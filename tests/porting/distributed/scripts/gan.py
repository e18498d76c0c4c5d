"""Two models on all processes, trained in turn, with an average of one of them beside."""

import argparse
import copy
import json
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Linear(16, 6))

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def forward(self, x):
        return self.net(x)


class Both(nn.Module):
    """What the file of weights holds."""

    def __init__(self):
        super().__init__()
        self.g, self.d = Generator(), Discriminator()


def build():
    return Both()


def main(args):
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    both = build()
    both.load_state_dict(torch.load(args.weights))
    averaged = copy.deepcopy(both.g)
    netG, netD = DDP(both.g), DDP(both.d)
    criterion = nn.BCEWithLogitsLoss()
    optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
    draw = np.random.RandomState(rank)
    losses = []
    for step in range(args.steps):
        real = torch.from_numpy((draw.randn(6, 6) * 0.5 + 1).astype(np.float32))
        noise = torch.from_numpy(draw.randn(6, 4).astype(np.float32))
        ones, zeros = torch.ones(6, 1), torch.zeros(6, 1)
        netD.zero_grad()
        fake = netG(noise)
        errD = criterion(netD(real), ones) + criterion(netD(fake.detach()), zeros)
        errD.backward()
        optimizerD.step()
        netG.zero_grad()
        errG = criterion(netD(fake), ones)
        errG.backward()
        optimizerG.step()
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), netG.module.parameters()):
                slow.mul_(0.9).add_(fast, alpha=0.1)
        losses.append([errD.item(), errG.item()])
    size = sum(p.abs().sum().item() for p in averaged.parameters())
    with open(os.path.join(args.out, f"{rank}.json"), "w") as file:
        json.dump([losses, size / world_size], file)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    main(parser.parse_args())
