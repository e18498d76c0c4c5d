"""The loss of a call: cells by stablemax, and whether to halt by the answer being right."""

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit

from .model import Carry, RecursiveModel

IGNORED = -100  # label of a cell that does not count


def log_stablemax(x: mx.array) -> mx.array:
    """log of s(x) / sum s(x) with s(x) = x + 1 from 0 on, 1 / (1 - x) below: no exponential."""
    s = mx.where(x < 0, 1 / (1 - x + 1e-30), x + 1)
    return mx.log(s / s.sum(axis=-1, keepdims=True))


class LossHead(nn.Module):
    """The model with its loss. `precision` is the dtype of stablemax: float64, where it exists."""

    def __init__(self, model: RecursiveModel, precision: str = "float64"):
        super().__init__()
        self.model = model
        self.precision = kit.tensors.dtype(precision)

    def cell_losses(self, logits: mx.array, labels: mx.array) -> mx.array:
        """Cross entropy of each cell, 0 where it does not count."""
        counted = labels != IGNORED
        wanted = mx.where(counted, labels, 0).astype(mx.int64)
        logs = log_stablemax(logits.astype(self.precision))
        picked = kit.tensors.squeeze(kit.indexing.gather(logs, -1, mx.expand_dims(wanted, -1)), -1)
        return -mx.where(counted, picked, 0)

    def measured(self, carry: Carry, right: mx.array, cells: mx.array, q: mx.array):
        """Sums over the puzzles that halted in this call."""
        solved = right.sum(axis=-1) == cells
        ended = carry.halted & (cells > 0)
        share = right.sum(axis=-1).astype(mx.float32) / mx.maximum(cells, 1)
        return {
            "count": ended.sum(),
            "accuracy": mx.where(ended, share, 0).sum(),
            "exact_accuracy": (ended & solved).sum(),
            "q_halt_accuracy": (ended & ((q >= 0) == solved)).sum(),
            "steps": mx.where(ended, carry.steps, 0).sum(),
        }

    def __call__(self, carry: Carry, batch: dict[str, mx.array]):
        carry, logits, q_halt = self.model(carry, batch)
        labels = carry.data["labels"]
        counted = labels != IGNORED
        cells = mx.stop_gradient(counted.sum(axis=-1))
        predicted = mx.stop_gradient(kit.tensors.argmax(logits, -1))
        right = counted & (predicted == labels)
        solved = right.sum(axis=-1) == cells
        metrics = kit.training.detached(self.measured(carry, right, cells, q_halt))
        losses = self.cell_losses(logits, labels)
        lm_loss = (losses / mx.expand_dims(mx.maximum(cells, 1), -1)).sum()
        q_loss = kit.losses.binary_cross_entropy_with_logits(q_halt, solved.astype(q_halt.dtype), reduction="sum")
        metrics["lm_loss"] = mx.stop_gradient(lm_loss)
        metrics["q_halt_loss"] = mx.stop_gradient(q_loss)
        return carry, lm_loss + 0.5 * q_loss, metrics, predicted
