"""Connectionist temporal classification (Graves et al., 2006)."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from torch2mlx.kit.precision import in_float32

_NEVER = -1e30  # a log-probability that stays finite under addition


def _lengths(given: mx.array | Sequence[int] | int, batch: int, most: int, name: str) -> np.ndarray:
    """Lengths as numbers of the host, one for each sequence."""
    lengths = np.array(given).reshape(-1)
    if lengths.dtype.kind not in "iu" and lengths.size:
        raise ValueError(f"ctc_loss: {name} are {lengths.dtype}: give whole numbers")
    if lengths.size != batch:
        raise ValueError(f"ctc_loss: {lengths.size} {name} for {batch} sequences")
    if lengths.size and (lengths.min() < 0 or lengths.max() > most):
        raise ValueError(f"ctc_loss: {name} are {lengths.tolist()}, and have to be 0 to {most}")
    return lengths.astype(np.int64)


def _checked(rows: np.ndarray, lengths: np.ndarray, classes: int, blank: int) -> None:
    """torch reads beyond its memory where a label is none of the classes, and its gradient is
    another than that of its loss where a label is the blank."""
    inside = np.arange(rows.shape[1])[None] < lengths[:, None]
    labels = rows[inside]
    if not 0 <= blank < classes:
        raise ValueError(f"ctc_loss: blank={blank} is none of {classes} classes")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"ctc_loss: a label of targets is none of {classes} classes")
    if (labels == blank).any():
        raise ValueError(
            f"ctc_loss: a label of targets is {blank}, the blank, which stands for none"
        )


def _rows(targets: mx.array, lengths: mx.array | Sequence[int] | int, batch: int) -> np.ndarray:
    """Targets in a row for each sequence; those that come all in one row are parted."""
    rows = np.array(targets)
    if rows.ndim not in (1, 2):
        raise ValueError(f"ctc_loss: targets have {rows.ndim} axes, and have to have 1 or 2")
    if rows.ndim == 2:
        if rows.shape[0] != batch:
            raise ValueError(f"ctc_loss: targets of {rows.shape[0]} sequences for {batch}")
        return rows
    wanted = _lengths(lengths, batch, rows.size, "target lengths")
    if wanted.sum() != rows.size:
        raise ValueError(f"ctc_loss: {rows.size} targets, the lengths add up to {wanted.sum()}")
    parted = np.zeros((batch, int(wanted.max(initial=0))), rows.dtype)
    parted[np.arange(parted.shape[1])[None] < wanted[:, None]] = rows
    return parted


def _labels(rows: np.ndarray, lengths: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets with blanks between, (N, 2 * S + 1), and where a step may skip a blank."""
    inside = np.arange(rows.shape[1])[None] < lengths[:, None]
    extended = np.full((rows.shape[0], 2 * rows.shape[1] + 1), blank)
    extended[:, 1::2] = np.where(inside, rows, blank)
    skip = np.zeros(extended.shape, bool)
    skip[:, 2:] = (extended[:, 2:] != blank) & (extended[:, 2:] != extended[:, :-2])
    return extended, skip


def _shifted(alpha: mx.array, by: int) -> mx.array:
    lead = mx.full((alpha.shape[0], min(by, alpha.shape[1])), _NEVER, alpha.dtype)
    return mx.concatenate([lead, alpha], axis=1)[:, : alpha.shape[1]]


def _losses(
    log_probs: mx.array,
    labels: np.ndarray,
    skip: np.ndarray,
    inputs: np.ndarray,
    wanted: np.ndarray,
) -> mx.array:
    """Minus the log-probability of each sequence, (N,); below `_NEVER / 2` where there is none."""
    index, may_skip = mx.array(labels), mx.array(skip)
    emitted = mx.take_along_axis(
        log_probs, mx.broadcast_to(index[None], (log_probs.shape[0], *index.shape)), axis=2
    )
    alpha = mx.where(mx.arange(labels.shape[1])[None] == 0, mx.zeros(labels.shape), _NEVER)
    lengths = mx.array(inputs)[:, None]
    for t in range(log_probs.shape[0]):
        before = mx.where(may_skip, _shifted(alpha, 2), _NEVER)
        moved = mx.logaddexp(mx.logaddexp(alpha, _shifted(alpha, 1)), before) + emitted[t]
        alpha = mx.where(t < lengths, moved, alpha)
    ends = mx.array(np.stack([2 * wanted, np.maximum(2 * wanted - 1, 0)], axis=1))
    final = mx.take_along_axis(alpha, ends, axis=1)
    return mx.where(mx.array(wanted > 0), mx.logaddexp(final[:, 0], final[:, 1]), final[:, 0])


@in_float32
def ctc_loss(
    log_probs: mx.array,
    targets: mx.array,
    input_lengths: mx.array | Sequence[int] | int,
    target_lengths: mx.array | Sequence[int] | int,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> mx.array:
    """torch's ctc_loss. log_probs: (T, N, C) or (T, C); targets: (N, S), or all in one row.

    "mean" divides each loss by its target length first. Lengths and labels are read on the host;
    a label that is the blank, or none of the classes, is a ValueError, and so is a length that its
    sequence does not have.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction={reduction!r}: choose none, mean or sum")
    single = log_probs.ndim == 2
    if single:
        log_probs, targets = log_probs[:, None], targets.reshape(1, -1)
    steps, batch, classes = log_probs.shape
    inputs = _lengths(input_lengths, batch, steps, "input lengths")
    rows = _rows(targets, target_lengths, batch)
    wanted = _lengths(target_lengths, batch, rows.shape[1], "target lengths")
    _checked(rows, wanted, classes, blank)
    total = _losses(log_probs, *_labels(rows, wanted, blank), inputs, wanted)
    impossible, read = total < _NEVER / 2, mx.array(inputs > 0)
    # torch's backward gives the gradient before log_softmax, which adds the probabilities; after
    # log_softmax's own backward both are the same. Of what no alignment gives it is NaN
    share = 1.0 if zero_infinity else mx.where(impossible, mx.inf, 1.0)
    share = mx.where(mx.arange(steps)[:, None] < mx.array(inputs)[None], share, 0.0)
    mass = mx.sum(mx.sum(mx.exp(log_probs), axis=2) * share, axis=0)
    never = mx.array(0.0) if zero_infinity else mx.where(read, mass, mx.inf)
    loss = mx.where(impossible, never, mass - mx.stop_gradient(mass) - total)
    if reduction == "mean":
        return mx.mean(loss / mx.array(np.maximum(wanted, 1)))
    if reduction == "sum":
        return mx.sum(loss)
    return loss[0] if single else loss
