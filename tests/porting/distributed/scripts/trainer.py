"""A class that trains: the model is wrapped within, snapshots are rank 0's, and read by all."""

import argparse
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributed import barrier, destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler


class Pairs(Dataset):
    def __init__(self, size):
        draw = np.random.RandomState(8)
        self.size = size
        self.data = [
            (
                torch.from_numpy(draw.rand(20).astype(np.float32)),
                torch.from_numpy(draw.rand(1).astype(np.float32)),
            )
            for _ in range(size)
        ]

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.data[index]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(20, 24)
        self.second = torch.nn.Linear(24, 1)

    def forward(self, x):
        return self.second(F.silu(self.first(x)))


def build():
    return Net()


class Trainer:
    def __init__(self, model, train_data, optimizer, save_every, snapshot_path):
        self.gpu_id = int(os.environ["LOCAL_RANK"])
        self.global_rank = int(os.environ["RANK"])
        self.model = model
        self.train_data = train_data
        self.optimizer = optimizer
        self.save_every = save_every
        self.epochs_run = 0
        self.snapshot_path = snapshot_path
        self.losses = []
        self.model = DDP(self.model)

    def _load_snapshot(self):
        snapshot = torch.load(self.snapshot_path)
        self.model.module.load_state_dict(snapshot["MODEL_STATE"])
        self.epochs_run = snapshot["EPOCHS_RUN"]

    def _run_batch(self, source, targets):
        self.optimizer.zero_grad()
        output = self.model(source)
        loss = F.mse_loss(output, targets)
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())

    def _run_epoch(self, epoch):
        self.train_data.sampler.set_epoch(epoch)
        for source, targets in self.train_data:
            self._run_batch(source, targets)

    def _save_snapshot(self, epoch):
        snapshot = {"MODEL_STATE": self.model.module.state_dict(), "EPOCHS_RUN": epoch}
        torch.save(snapshot, self.snapshot_path)

    def train(self, steps):
        epoch = 0
        while len(self.losses) < steps:
            self._run_epoch(epoch)
            if self.global_rank == 0 and epoch % self.save_every == 0:
                self._save_snapshot(epoch)
            epoch += 1
        barrier()
        self._load_snapshot()
        self._run_epoch(self.epochs_run)


def main(args):
    init_process_group(backend="gloo")
    model = build()
    model.load_state_dict(torch.load(args.weights))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    data = Pairs(70)
    loader = DataLoader(data, batch_size=4, shuffle=False, sampler=DistributedSampler(data))
    trainer = Trainer(model, loader, optimizer, 2, os.path.join(args.out, "snapshot.pt"))
    trainer.train(args.steps)
    with open(os.path.join(args.out, f"{trainer.global_rank}.json"), "w") as file:
        json.dump(trainer.losses, file)
    destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out")
    main(parser.parse_args())
