"""Which items of a dataset are whose: torch's DistributedSampler, in torch's order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from torch2mlx.kit.processes import get_rank, get_world_size

#: From this many items on torch draws twice as many bits for each.
_LONG = (2**32 - 1) // 20


def permutation(count: int, seed: int) -> list[int]:
    """torch.randperm of a generator with a seed, on the CPU: Fisher and Yates' shuffle by the
    numbers of a Mersenne twister. Raises ValueError from 214 million items on."""
    if count >= _LONG:
        raise ValueError(f"{count} items: torch draws otherwise from {_LONG} on")
    order = list(range(count))
    drawn = np.random.RandomState(seed & 0xFFFFFFFF)
    steps = drawn.randint(0, 2**32, max(count - 1, 0), np.uint32)
    steps = steps % np.arange(count, 1, -1).astype(np.uint32)
    for place, step in enumerate(steps.tolist()):
        other = place + step
        order[place], order[other] = order[other], order[place]
    return order


class DistributedSampler:
    """torch.utils.data.distributed.DistributedSampler: every process has its part of the places,
    the same number each; the first places fill up what is missing, or the last are dropped."""

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.num_replicas = get_world_size() if num_replicas is None else num_replicas
        self.rank = get_rank() if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(f"rank {self.rank} of {self.num_replicas} processes")
        self.dataset, self.shuffle, self.seed, self.drop_last = dataset, shuffle, seed, drop_last
        self.epoch = 0
        count = len(dataset)
        short = drop_last and count % self.num_replicas != 0
        left = count - self.num_replicas if short else count
        self.num_samples = math.ceil(left / self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        order = permutation(count, self.seed + self.epoch) if self.shuffle else list(range(count))
        if not self.drop_last:
            missing = self.total_size - count
            order += (order * math.ceil(missing / max(count, 1)))[:missing]
        return iter(order[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Another order for each epoch, the same on all processes."""
        self.epoch = epoch
