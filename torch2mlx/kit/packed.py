"""Batches of sequences of different lengths, as torch.nn.utils.rnn has them: padded arrays that
carry their lengths. kit's RNN, LSTM and GRU take a PackedSequence and answer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx


@dataclass(frozen=True)
class PackedSequence:
    """`padded` (L, B, ...) and `lengths` (B,): what lies past a length counts for nothing."""

    padded: mx.array
    lengths: mx.array


def pack_padded_sequence(
    x: mx.array, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """torch's: x (L, B, ...) or (B, L, ...). Raises ValueError for lengths that are not sorted
    though `enforce_sorted`, below 1, or of another number than there are sequences."""
    counts = [int(n) for n in (lengths.tolist() if isinstance(lengths, mx.array) else lengths)]
    x = x.swapaxes(0, 1) if batch_first else x
    if len(counts) != x.shape[1]:
        raise ValueError(f"{len(counts)} lengths for {x.shape[1]} sequences")
    if enforce_sorted and counts != sorted(counts, reverse=True):
        raise ValueError("lengths must fall when enforce_sorted is True")
    if min(counts) < 1 or max(counts) > x.shape[0]:
        raise ValueError(f"lengths must be from 1 to {x.shape[0]}")
    return PackedSequence(x[: max(counts)], mx.array(counts))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[mx.array, mx.array]:
    """torch's: the batch, filled up with `padding_value`, and the lengths. Raises ValueError when
    `total_length` is shorter than the longest sequence."""
    x, lengths = sequence.padded, sequence.lengths
    if total_length is not None:
        if total_length < x.shape[0]:
            raise ValueError(f"total_length {total_length} is below the longest, {x.shape[0]}")
        x = mx.pad(x, [(0, total_length - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
    inside = mx.arange(x.shape[0])[:, None] < lengths
    x = mx.where(inside.reshape(*inside.shape, *[1] * (x.ndim - 2)), x, padding_value)
    return (x.swapaxes(0, 1) if batch_first else x), lengths


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
    return [row[:n] for row, n in zip(x, lengths.tolist(), strict=True)]
