"""Branches that some processes take and others do not, and a part that is frozen."""

import argparse
import json
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(8, 12)
        self.left = nn.Linear(12, 3)
        self.right = nn.Linear(12, 3)

    def forward(self, x, which):
        x = torch.tanh(self.stem(x))
        if which == 0:
            return self.left(x)
        return self.right(x)


def build():
    return Experts()


def run(args):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = build()
    model.load_state_dict(torch.load(args.weights))
    model.stem.bias.requires_grad = False
    model = DDP(model, find_unused_parameters=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    draw = np.random.RandomState(rank)
    losses = []
    for step in range(args.steps):
        x = torch.from_numpy(draw.randn(4, 8).astype(np.float32))
        y = torch.from_numpy(draw.randint(0, 3, 4))
        optimizer.zero_grad()
        loss = criterion(model(x, (rank + step) % 2), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with open(os.path.join(args.out, f"{rank}.json"), "w") as file:
        json.dump(losses, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    run(parser.parse_args())
