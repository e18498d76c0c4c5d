"""Batches through mlx.data: items are read by its threads, ahead of the training step.

The loader is `kit.data`'s with the same datasets, samplers, order and batches; `num_workers`
threads prepare `prefetch_factor` batches each. They help where reading waits for files or runs in
numpy; items are read at the same time, so `dataset[i]` must not change what others read.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit import data
from torch2mlx.kit.stubs import tree_flatten


class DataLoader(data.DataLoader):
    """torch.utils.data.DataLoader with threads of mlx.data.

    Raises ImportError, when it is iterated, where mlx-data is not installed.
    """

    def __init__(self, *args: Any, num_workers: int = 0, **kwargs: Any) -> None:
        self.num_workers, self.prefetch_factor = num_workers, kwargs.get("prefetch_factor") or 2
        super().__init__(*args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        whole = isinstance(self.dataset, (data.IterableDataset, data.TensorDataset))
        alone = self.batch_size is None and self.batch_sampler is None
        if whole or alone or not self.num_workers:
            yield from super().__iter__()
            return
        import mlx.data

        batches, read, ended = list(self._batches()), {}, Event()

        def fetch(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            number = int(sample["batch"])
            if not ended.is_set():
                items = [self.dataset[place] for place in batches[number]]
                held = (leaf for _, leaf in tree_flatten(items))
                mx.eval([leaf for leaf in held if isinstance(leaf, mx.array)])  # in its own thread
                read[number] = items
            return sample

        numbers = mlx.data.buffer_from_vector([{"batch": i} for i in range(len(batches))])
        ahead = self.prefetch_factor * self.num_workers
        stream = iter(numbers.sample_transform(fetch).ordered_prefetch(ahead, self.num_workers))
        # also when the program ends: a thread may not outlive the interpreter
        end = weakref.finalize(ended, _drain, ended.set, stream)
        try:
            for sample in stream:
                yield self.collate_fn(read.pop(int(sample["batch"])))
        finally:
            end()


def _drain(stop: Callable[[], None], stream: Iterator[Any]) -> None:
    """Ends a stream whose samples nobody wants any more."""
    stop()
    with suppress(Exception):  # what failed was told to who asked for it
        for _ in stream:
            pass
