"""Evaluation: every puzzle gets all its steps; shares of cells and of whole puzzles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from examples.trm.data import PuzzleSet
from examples.trm.in_mlx.losses import LossHead
from examples.trm.training import in_mlx


def evaluate(head: LossHead, data: PuzzleSet, batch_size: int) -> dict[str, float]:
    """Means over all puzzles: accuracy (of cells), exact_accuracy, q_halt_accuracy, steps, losses.

    In evaluation nobody halts early, so a batch ends as one.
    """
    head.eval()
    return scored(head, (in_mlx(batch) for batch, _ in data.testing(batch_size)))


def scored(head: Any, batches: Iterable[Any]) -> dict[str, float]:
    """Those means, of a model in either framework."""
    sums: dict[str, float] = {}
    for given in batches:
        carry = head.model.initial_carry(given)
        while True:
            carry, _, metrics, _ = head(carry, given)
            if carry.halted.all().item():
                break
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value.item()
    count = max(sums.pop("count"), 1)
    return {name: value / count for name, value in sums.items()}
