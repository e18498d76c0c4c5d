"""Gradients kept apart by `no_sync` for some batches; a sampler that drops what does not divide."""

import argparse
import contextlib
import json
import os

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

ACCUMULATE = 3


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 20)
        self.norm = nn.LayerNorm(20)
        self.outer = nn.Linear(20, 2)

    def forward(self, x):
        return self.outer(torch.relu(self.norm(self.inner(x))))


def build():
    return Regression()


def main(args):
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    draw = np.random.RandomState(0)
    x = draw.randn(139, 6).astype(np.float32)
    y = np.stack([np.sin(x).sum(1), x[:, 0] * x[:, 1]], 1).astype(np.float32)
    data = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    sampler = DistributedSampler(data, world_size, rank, shuffle=True, seed=11, drop_last=True)
    loader = DataLoader(data, batch_size=4, sampler=sampler, drop_last=True)
    model = build()
    model.load_state_dict(torch.load(args.weights))
    model = DDP(model, gradient_as_bucket_view=True)
    criterion = nn.MSELoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    losses, steps, epoch = [], 0, 0
    while steps < args.steps:
        sampler.set_epoch(epoch)
        epoch += 1
        for place, (inputs, targets) in enumerate(loader):
            last = (place + 1) % ACCUMULATE == 0
            with contextlib.nullcontext() if last else model.no_sync():
                loss = criterion(model(inputs), targets) / ACCUMULATE
                loss.backward()
            losses.append(loss.item())
            if last:
                torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
                steps += 1
                if steps == args.steps:
                    break
        optimizer.zero_grad()  # what is left of the last batches does not count
    with open(os.path.join(args.out, f"{rank}.json"), "w") as file:
        json.dump(losses, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    main(parser.parse_args())
