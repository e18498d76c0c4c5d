"""Connectionist temporal classification (Graves et al., 2006)."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

_NEVER = -1e30  # a log-probability that stays finite under addition


def _labels(targets: mx.array, lengths: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets with blanks between, (N, 2 * S + 1), and where a step may skip a blank."""
    rows = np.array(targets)
    if rows.ndim == 1:
        starts = np.concatenate([[0], np.cumsum(lengths)])
        padded = np.full((len(lengths), int(lengths.max(initial=0))), blank)
        for i, n in enumerate(lengths):
            padded[i, :n] = rows[starts[i] : starts[i] + n]
        rows = padded
    extended = np.full((rows.shape[0], 2 * rows.shape[1] + 1), blank)
    extended[:, 1::2] = rows
    skip = np.zeros(extended.shape, bool)
    skip[:, 2:] = (extended[:, 2:] != blank) & (extended[:, 2:] != extended[:, :-2])
    return extended, skip


def _shifted(alpha: mx.array, by: int) -> mx.array:
    lead = mx.full((alpha.shape[0], min(by, alpha.shape[1])), _NEVER, alpha.dtype)
    return mx.concatenate([lead, alpha], axis=1)[:, : alpha.shape[1]]


def ctc_loss(
    log_probs: mx.array,
    targets: mx.array,
    input_lengths,
    target_lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> mx.array:
    """torch's ctc_loss. log_probs: (T, N, C); targets: (N, S), or all in one row.

    "mean" divides each loss by its target length first. Lengths are read on the host.
    """
    inputs, wanted = np.array(input_lengths).reshape(-1), np.array(target_lengths).reshape(-1)
    single = log_probs.ndim == 2
    if single:
        log_probs, targets = log_probs[:, None], targets.reshape(1, -1)
    labels, skip = _labels(targets, wanted, blank)
    index, may_skip = mx.array(labels), mx.array(skip)
    emitted = mx.take_along_axis(
        log_probs, mx.broadcast_to(index[None], (log_probs.shape[0], *index.shape)), axis=2
    )
    start = mx.arange(labels.shape[1])[None] < mx.array(np.where(wanted > 0, 2, 1))[:, None]
    alpha = mx.where(start, emitted[0], _NEVER)
    lengths = mx.array(inputs)[:, None]
    for t in range(1, log_probs.shape[0]):
        before = mx.where(may_skip, _shifted(alpha, 2), _NEVER)
        moved = mx.logaddexp(mx.logaddexp(alpha, _shifted(alpha, 1)), before) + emitted[t]
        alpha = mx.where(t < lengths, moved, alpha)
    ends = mx.array(np.stack([2 * wanted, np.maximum(2 * wanted - 1, 0)], axis=1))
    final = mx.take_along_axis(alpha, ends, axis=1)
    total = mx.where(mx.array(wanted > 0), mx.logaddexp(final[:, 0], final[:, 1]), final[:, 0])
    # torch's backward gives the gradient before log_softmax, which adds the probabilities; after
    # log_softmax's own backward both are the same
    steps = mx.arange(log_probs.shape[0])[:, None] < mx.array(inputs)[None]
    mass = mx.sum(mx.where(steps[..., None], mx.exp(log_probs), 0), axis=(0, 2))
    impossible = total < _NEVER / 2
    loss = mx.where(
        impossible, 0.0 if zero_infinity else mx.inf, mass - mx.stop_gradient(mass) - total
    )
    if reduction == "mean":
        return mx.mean(loss / mx.array(np.maximum(wanted, 1)))
    if reduction == "sum":
        return mx.sum(loss)
    return loss[0] if single else loss
