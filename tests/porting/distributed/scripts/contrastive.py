"""Two towers whose similarities are taken over the batches of all processes."""

import argparse
import json
import os

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.images = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 8))
        self.texts = nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 8))
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, image, text):
        image = F.normalize(self.images(image), dim=-1)
        text = F.normalize(self.texts(text), dim=-1)
        return image, text, self.scale.exp()


def build():
    return Towers()


def gathered(features, rank, world_size):
    """Features of all: those of the others are constants."""
    parts = [torch.zeros_like(features) for _ in range(world_size)]
    dist.all_gather(parts, features)
    parts[rank] = features
    return torch.cat(parts, dim=0)


def clip_loss(image, text, scale, rank, world_size):
    all_image = gathered(image, rank, world_size)
    all_text = gathered(text, rank, world_size)
    labels = torch.arange(image.shape[0]) + image.shape[0] * rank
    per_image = scale * image @ all_text.t()
    per_text = scale * text @ all_image.t()
    return (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)) / 2


def main(args):
    dist.init_process_group(backend="gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    model = build()
    model.load_state_dict(torch.load(args.weights))
    model = DistributedDataParallel(model, static_graph=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    shared, draw = np.random.RandomState(5), np.random.RandomState(100 + rank)
    mix = shared.randn(9, 7).astype(np.float32)
    losses = []
    for _ in range(args.steps):
        image = draw.randn(5, 9).astype(np.float32)
        text = torch.from_numpy(image @ mix)
        features = model(torch.from_numpy(image), text)
        loss = clip_loss(*features, rank, world_size)
        optimizer.zero_grad()
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
    main(parser.parse_args())
