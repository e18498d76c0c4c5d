"""Everything that processes may tell each other, around an ordinary loop."""

import argparse
import json
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP


class Meter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    def all_reduce(self):
        total = torch.tensor([self.sum, float(self.count)], dtype=torch.float32)
        dist.all_reduce(total, dist.ReduceOp.SUM, async_op=False)
        self.sum, self.count = total.tolist()
        return self.sum / self.count


def build():
    return nn.Sequential(nn.Linear(5, 14), nn.ReLU(), nn.Linear(14, 1))


def told(loss, rank, world_size):
    """The same number by several ways."""
    best, worst, first = loss.clone(), loss.clone(), loss.clone()
    handle = dist.all_reduce(best, op=dist.ReduceOp.MIN, async_op=True)
    handle.wait()
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    dist.broadcast(first, src=2)
    on_one = loss.clone()
    dist.reduce(on_one, dst=1)
    parts = [torch.zeros(1) for _ in range(world_size)] if rank == 0 else None
    dist.gather(loss.reshape(1), gather_list=parts, dst=0)
    everyone = torch.empty(world_size)
    dist.all_gather_into_tensor(everyone, loss.reshape(1))
    mine = torch.zeros(2)
    rows = [torch.full((2,), float(i)) * loss for i in range(world_size)] if rank == 3 else None
    dist.scatter(mine, rows, src=3)
    product = torch.full((2,), 1.0 + rank)
    dist.all_reduce(product, op=dist.ReduceOp.PRODUCT)
    seen = [
        torch.cat(parts).sum().item() if rank == 0 else 0.0,
        on_one.item() if rank == 1 else 0.0,
    ]
    numbers = [best.item(), worst.item(), first.item(), mine.sum().item(), product.sum().item()]
    return [*numbers, *everyone.tolist(), *seen]


def neighbours(rank, value):
    """A number that goes from rank 0 to rank 1 and back."""
    if rank == 0:
        dist.send(value, dst=1)
        dist.recv(value, src=1)
    elif rank == 1:
        other = torch.zeros_like(value)
        dist.recv(other, src=0)
        dist.send(other + 1, dst=0)
    return value.item()


def main(args):
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    config = [{"lr": 0.02, "name": "run"} if rank == 0 else None]
    dist.broadcast_object_list(config, src=0)
    model = build()
    model.load_state_dict(torch.load(args.weights))
    model = DDP(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=config[0]["lr"], momentum=0.9)
    draw = np.random.RandomState(20 + rank)
    losses, meter, log = [], Meter(), []
    for step in range(args.steps):
        x = torch.from_numpy(draw.randn(3 + rank, 5).astype(np.float32))
        target = x.sum(dim=1, keepdim=True)
        optimizer.zero_grad()
        loss = (model(x) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        meter.update(loss.item(), len(x))
        if step % 10 == 0:
            log.append(told(loss.detach(), rank, world_size))
    names = [None for _ in range(world_size)]
    dist.all_gather_object(names, {"rank": rank, "steps": len(losses)})
    log.append([meter.all_reduce(), float(sum(n["steps"] * n["rank"] for n in names))])
    log.append([neighbours(rank, torch.tensor([3.0]))])
    dist.barrier()
    with open(os.path.join(args.out, f"{rank}.json"), "w") as file:
        json.dump([losses, log], file)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    main(parser.parse_args())
