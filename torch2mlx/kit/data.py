"""Datasets and a loader over numpy and MLX arrays, with the arguments of torch.utils.data.

Batches are made in the process itself: MLX reads unified memory, so workers and pinned memory have
nothing to do, and their arguments are taken and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np


class Dataset:
    """Items by place. A subclass gives `__getitem__` and `__len__`."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Items in a row. A subclass gives `__iter__`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError


class TensorDataset(Dataset):
    """Rows of arrays of one length."""

    def __init__(self, *tensors: Any) -> None:
        if len({len(t) for t in tensors}) != 1:
            raise ValueError(f"arrays of different lengths: {[len(t) for t in tensors]}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset):
    """Some items of a dataset."""

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """Datasets in a row."""

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.datasets = list(datasets)

    def __getitem__(self, index: int) -> Any:
        for dataset in self.datasets:
            if index < len(dataset):
                return dataset[index]
            index -= len(dataset)
        raise IndexError("past the last dataset")

    def __len__(self) -> int:
        return sum(len(d) for d in self.datasets)


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Parts of a dataset, drawn at random: of given lengths, or of shares that add up to 1."""
    counts = [int(n) for n in lengths]
    if sum(lengths) <= 1 + 1e-9 and any(isinstance(n, float) for n in lengths):
        counts = [int(len(dataset) * n) for n in lengths]
        for i in range(len(dataset) - sum(counts)):
            counts[i % len(counts)] += 1
    if sum(counts) != len(dataset):
        raise ValueError(f"lengths add up to {sum(counts)}, the dataset has {len(dataset)} items")
    order = np.random.permutation(len(dataset))
    ends = np.cumsum(counts)
    return [Subset(dataset, order[e - n : e]) for n, e in zip(counts, ends, strict=True)]


class SequentialSampler:
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        self.count = len(data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))

    def __len__(self) -> int:
        return self.count


#: Places that a `RandomSampler` with replacement draws at once.
_DRAWN = 32


class RandomSampler(SequentialSampler):
    """Places in random order, or drawn with replacement."""

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None
    ) -> None:
        super().__init__(data_source)
        self.replacement, self.drawn = replacement, num_samples or self.count

    def __iter__(self) -> Iterator[int]:
        if self.replacement:
            return self._replaced()
        return iter(np.random.permutation(self.count)[: self.drawn].tolist())

    def _replaced(self) -> Iterator[int]:
        """A few places at a time, as torch draws them: there may be more than memory holds."""
        for first in range(0, self.drawn, _DRAWN):
            shape = (min(_DRAWN, self.drawn - first),)
            places: Any = mx.random.randint(0, self.count, shape).tolist()
            yield from places

    def __len__(self) -> int:
        return self.drawn


class SubsetRandomSampler(SequentialSampler):
    """Given places in random order."""

    def __init__(self, indices: Sequence[int]) -> None:
        super().__init__(indices)
        self.indices = np.asarray(indices)

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.permutation(self.indices).tolist())


class WeightedRandomSampler(SequentialSampler):
    """Places drawn in proportion to weights."""

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True) -> None:
        self.weights, self.count = np.asarray(weights, np.float64), num_samples
        self.replacement = replacement

    def __iter__(self) -> Iterator[int]:
        shares = self.weights / self.weights.sum()
        return iter(np.random.choice(len(shares), self.count, self.replacement, shares).tolist())


def default_collate(items: Sequence[Any]) -> Any:
    """Items as one batch: arrays and numbers stacked, containers item by item."""
    first = items[0]
    if isinstance(first, mx.array):
        return mx.stack(list(items))
    if isinstance(first, np.ndarray):
        return mx.array(np.stack(items))
    if isinstance(first, (bool, np.bool_)):
        return mx.array(list(items))
    if isinstance(first, (int, np.integer)):
        return mx.array(np.asarray(items, np.int64))
    if isinstance(first, (float, np.floating)):
        return mx.array(np.asarray(items, np.float32))
    if isinstance(first, dict):
        return {key: default_collate([item[key] for item in items]) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(default_collate(part) for part in zip(*items, strict=True))
    return list(items)


class DataLoader:
    """Batches of a dataset, in order or shuffled (by numpy's generator: `np.random.seed`).

    Arguments about workers, pinned memory and prefetching are ignored.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[Sequence[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        **ignored: Any,
    ) -> None:
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self.collate_fn, self.batch_sampler = collate_fn or default_collate, batch_sampler
        kind = RandomSampler if shuffle else SequentialSampler
        self.sampler = sampler
        if sampler is None and batch_sampler is None and not isinstance(dataset, IterableDataset):
            self.sampler = kind(dataset)

    def _batches(self) -> Iterator[list[int]]:
        if self.batch_sampler is not None:
            yield from (list(places) for places in self.batch_sampler)
            return
        batch: list[int] = []
        for place in self.sampler:
            batch.append(place)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def _items(self) -> Iterator[list[Any]]:
        batch: list[Any] = []
        for item in self.dataset:
            batch.append(item)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __iter__(self) -> Iterator[Any]:
        if self.batch_size is None and self.batch_sampler is None:
            yield from (self.dataset[place] for place in self.sampler)
        elif isinstance(self.dataset, IterableDataset):
            yield from (self.collate_fn(items) for items in self._items())
        elif isinstance(self.dataset, TensorDataset) and self.collate_fn is default_collate:
            for places in self._batches():
                index = mx.array(places)
                yield [
                    t[index] if isinstance(t, mx.array) else mx.array(t[places])
                    for t in self.dataset.tensors
                ]
        else:
            for places in self._batches():
                yield self.collate_fn([self.dataset[place] for place in places])

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        if self.batch_size is None:
            return len(self.sampler)
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)
