"""Batches of sequences of different lengths, as torch.nn.utils.rnn has them: the items of all
sequences without padding, step by step. kit's RNN, LSTM and GRU take a PackedSequence and answer
one.

Lengths are read when sequences are packed: what packs cannot be traced by mx.compile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import mlx.core as mx


class _Fields(NamedTuple):
    data: mx.array
    batch_sizes: mx.array
    sorted_indices: mx.array | None
    unsorted_indices: mx.array | None


class PackedSequence(_Fields):
    """`data` (sum of lengths, ...), the first items of all sequences first, longest sequence first;
    `batch_sizes` (longest,), how many sequences have each step; `sorted_indices` and
    `unsorted_indices` (B,), the order by length and the way back, None where they came sorted."""

    def __new__(
        cls,
        data: mx.array,
        batch_sizes: mx.array,
        sorted_indices: mx.array | None = None,
        unsorted_indices: mx.array | None = None,
    ) -> PackedSequence:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)


def invert_permutation(permutation: mx.array | None) -> mx.array | None:
    """torch's: where each item of a permutation (B,) went."""
    return None if permutation is None else mx.argsort(permutation).astype(permutation.dtype)


def _numbers(x: mx.array) -> list[int]:
    """The items of an array of integers (n,)."""
    items: Any = x.tolist()
    return items


def pack_padded_sequence(
    x: mx.array, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """torch's: x (L, B, ...) or (B, L, ...). Raises ValueError for lengths that are not sorted
    though `enforce_sorted`, below 1, above L, or of another number than there are sequences."""
    given: Any = lengths.tolist() if isinstance(lengths, mx.array) else lengths
    counts = [int(n) for n in given]
    x = x.swapaxes(0, 1) if batch_first else x
    if len(counts) != x.shape[1]:
        raise ValueError(f"{len(counts)} lengths for {x.shape[1]} sequences")
    if enforce_sorted and counts != sorted(counts, reverse=True):
        raise ValueError("lengths must fall when enforce_sorted is True")
    if min(counts) < 1 or max(counts) > x.shape[0]:
        raise ValueError(f"lengths must be from 1 to {x.shape[0]}")
    order = None
    if not enforce_sorted:
        order = mx.array(sorted(range(len(counts)), key=lambda i: -counts[i]), mx.int64)
        counts.sort(reverse=True)
    sizes = [sum(n > step for n in counts) for step in range(counts[0])]
    empty = PackedSequence(x[:0, 0], mx.array(sizes, mx.int64), order)
    return packed_like(x[: counts[0]], empty)


def packed_like(x: mx.array, like: PackedSequence) -> PackedSequence:
    """Padded sequences (L, B, ...), packed as others of the same lengths are."""
    sizes, batch = _numbers(like.batch_sizes), x.shape[1]
    order = range(batch) if like.sorted_indices is None else _numbers(like.sorted_indices)
    rows = [step * batch + i for step, size in enumerate(sizes) for i in order[:size]]
    data = x.reshape(-1, *x.shape[2:])[mx.array(rows, mx.int32)]
    return PackedSequence(data, *like[1:])


def padded(sequence: PackedSequence, padding_value: float = 0.0) -> tuple[mx.array, mx.array]:
    """The sequences (longest, B, ...) in the order in which they came, and their lengths (B,)."""
    data, batch_sizes, _, unsorted_indices = sequence
    sizes = _numbers(batch_sizes)
    places = range(sizes[0]) if unsorted_indices is None else _numbers(unsorted_indices)
    starts = accumulate(sizes[:-1], initial=0)
    rows = [[s + p if p < n else 0 for p in places] for s, n in zip(starts, sizes, strict=True)]
    inside = mx.array(list(places)) < batch_sizes[:, None]
    kept = inside.reshape(*inside.shape, *[1] * (data.ndim - 1))
    x = mx.where(kept, data[mx.array(rows, mx.int32)], mx.array(padding_value, data.dtype))
    return x, inside.sum(axis=0).astype(mx.int64)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[mx.array, mx.array]:
    """torch's: the batch, filled up with `padding_value`, and the lengths. Raises ValueError when
    `total_length` is shorter than the longest sequence."""
    x, lengths = padded(sequence, padding_value)
    if total_length is not None:
        if total_length < x.shape[0]:
            raise ValueError(f"total_length {total_length} is below the longest, {x.shape[0]}")
        widths = [(0, total_length - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
        x = mx.pad(x, widths, constant_values=mx.array(padding_value, x.dtype))
    return (x.swapaxes(0, 1) if batch_first else x), lengths


def over_padded(run: Callable[..., Any], sequence: PackedSequence, *args: Any) -> tuple[Any, ...]:
    """What a function of padded sequences (L, B, ...), arguments and lengths answers, with its
    first result packed again."""
    x, lengths = padded(sequence)
    y, *rest = run(x, *args, lengths)
    return packed_like(y, sequence), *rest


def on_items(
    change: Callable[[mx.array], mx.array], x: mx.array, like: PackedSequence | None
) -> mx.array:
    """Padded sequences (L, B, ...) with their items changed; all of x where `like` is None."""
    if like is None:
        return change(x)
    items = packed_like(x, like)
    return padded(items._replace(data=change(items.data)))[0]


def pad_sequence(
    sequences: Sequence[mx.array],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> mx.array:
    """torch's: sequences (L_i, ...) as one array (L, B, ...) or (B, L, ...)."""
    longest = max(len(s) for s in sequences)
    made = []
    for s in sequences:
        gap = longest - len(s)
        widths = [(0, gap) if padding_side == "right" else (gap, 0)] + [(0, 0)] * (s.ndim - 1)
        made.append(mx.pad(s, widths, constant_values=padding_value))
    return mx.stack(made, axis=0 if batch_first else 1)


def pack_sequence(sequences: Sequence[mx.array], enforce_sorted: bool = True) -> PackedSequence:
    """torch's: a list of sequences (L_i, ...), packed."""
    lengths = [len(s) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(x: mx.array, lengths: mx.array, batch_first: bool = False) -> list[mx.array]:
    """torch's: the sequences of a padded batch, each at its length."""
    x = x if batch_first else x.swapaxes(0, 1)
    return [row[:n] for row, n in zip(x, _numbers(lengths), strict=True)]
