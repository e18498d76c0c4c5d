"""Images, batch norm whose statistics are rank 0's again in each forward pass, a schedule."""

import argparse
import json
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler


class Pictures(Dataset):
    def __init__(self, count, seed):
        draw = np.random.RandomState(seed)
        self.x = draw.randn(count, 1, 8, 8).astype(np.float32)
        self.y = (self.x[:, 0, 2:6, 2:6].sum((1, 2)) > 0).astype(np.int64)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return torch.from_numpy(self.x[index]), torch.tensor(self.y[index])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 3 * 3, 2)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool2d(x, 2)
        return self.fc(torch.flatten(x, 1))


def build():
    return Net()


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    total, count = torch.zeros(1, device=device), 0
    for x, y in loader:
        total += F.cross_entropy(model(x.to(device)), y.to(device), reduction="sum")
        count += len(y)
    dist.all_reduce(total)
    model.train()
    return (total / (count * dist.get_world_size())).item()


def train(args):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    device = torch.device("cpu")
    model = build()
    model.load_state_dict(torch.load(args.weights, map_location=device))
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    scheduler = StepLR(optimizer, step_size=2, gamma=0.7)
    net = DistributedDataParallel(model)
    data, held = Pictures(96, 0), Pictures(32, 1)
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=6, sampler=sampler)
    test = DataLoader(held, batch_size=4, sampler=DistributedSampler(held, shuffle=False))
    losses, checks = [], []
    for epoch in range(1000):
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) >= args.steps:
                break
        scheduler.step()
        checks.append(evaluate(net, test, device))
        if len(losses) >= args.steps:
            break
    means = net.module.bn1.running_mean.sum().item()
    with open(os.path.join(args.out, f"{rank}.json"), "w") as file:
        json.dump([losses, checks, means], file)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    train(parser.parse_args())
