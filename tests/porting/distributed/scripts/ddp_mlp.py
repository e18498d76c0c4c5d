"""As torchrun starts it: one model on all processes, a sampler that pads, means for the log."""

import argparse
import json
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def build():
    return nn.Sequential(
        nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 4)
    )


def dataset():
    draw = np.random.RandomState(3)
    x = draw.randn(90, 12).astype(np.float32)
    y = (x @ draw.randn(12, 4).astype(np.float32)).argmax(1)
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))


def setup():
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo")
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    return local_rank, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def mean_of(value, world_size):
    total = value.detach().clone()
    dist.all_reduce(total, op=dist.ReduceOp.SUM)
    total /= world_size
    return total.item()


def main(args):
    local_rank, rank, world_size = setup()
    device = (
        torch.device(f"cuda:{local_rank}") if torch.cuda.is_available() else torch.device("cpu")
    )
    model = build().to(device)
    if rank == 0:  # the others start from what rank 0 has
        model.load_state_dict(torch.load(args.weights))
    ddp_model = DDP(model, device_ids=[local_rank] if torch.cuda.is_available() else None)
    sampler = DistributedSampler(dataset(), num_replicas=world_size, rank=rank, seed=5)
    loader = DataLoader(dataset(), batch_size=5, sampler=sampler, num_workers=0, pin_memory=True)
    optimizer = torch.optim.SGD(ddp_model.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-3)
    losses, epoch = [], 0
    while len(losses) < args.steps:
        sampler.set_epoch(epoch)
        ddp_model.train()
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = F.cross_entropy(ddp_model(x), y)
            loss.backward()
            optimizer.step()
            losses.append([loss.item(), mean_of(loss, world_size)])
            if len(losses) == args.steps:
                break
        epoch += 1
        if rank == 0:
            print(f"epoch {epoch}: {losses[-1][1]:.4f}")
    dist.barrier()
    with open(os.path.join(args.out, f"{rank}.json"), "w") as file:
        json.dump(losses, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    main(parser.parse_args())
