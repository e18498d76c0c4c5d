"""Started as one process, which starts the others; each is told its rank."""

import argparse
import json
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP


class ToyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.net1 = nn.Linear(10, 10)
        self.relu = nn.ReLU()
        self.net2 = nn.Linear(10, 5)

    def forward(self, x):
        return self.net2(self.relu(self.net1(x)))


def build():
    return ToyModel()


def setup(rank, world_size, port):
    os.environ["MASTER_ADDR"] = "localhost"
    os.environ["MASTER_PORT"] = port
    dist.init_process_group("gloo", rank=rank, world_size=world_size)


def cleanup():
    dist.destroy_process_group()


def demo(rank, world_size, args):
    setup(rank, world_size, args.port)
    model = ToyModel().to("cpu")
    model.load_state_dict(torch.load(args.weights))
    ddp_model = DDP(model)
    loss_fn = nn.MSELoss()
    optimizer = torch.optim.SGD(ddp_model.parameters(), lr=0.05)
    draw = np.random.RandomState(rank)
    losses = []
    for _ in range(args.steps):
        inputs = torch.from_numpy(draw.randn(6, 10).astype(np.float32))
        labels = inputs[:, :5] * 2
        optimizer.zero_grad()
        outputs = ddp_model(inputs)
        loss = loss_fn(outputs, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with open(os.path.join(args.out, f"{rank}.json"), "w") as file:
        json.dump(losses, file)
    cleanup()


def run_demo(demo_fn, world_size, args):
    mp.spawn(demo_fn, args=(world_size, args), nprocs=world_size, join=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    parser.add_argument("--port", default="29561")
    parser.add_argument("--world-size", type=int, default=4)
    arguments = parser.parse_args()
    run_demo(demo, arguments.world_size, arguments)
