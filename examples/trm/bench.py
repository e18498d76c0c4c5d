"""Seconds of a training step in MLX and torch, side by side: medians of alternating rounds."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

from examples.trm.beside import tensors, with_weights_of
from examples.trm.config import Config
from examples.trm.data import PuzzleSet
from examples.trm.training import in_mlx


def seconds(root: Path, config: Config, rounds: int = 15) -> dict[str, float]:
    """Median seconds of a step: torch eager, MLX, MLX compiled. Raises DataError."""
    data = PuzzleSet(root, "train")
    batch = next(data.training(config.train.batch_size, 0, 1, 99))
    plain, theirs = with_weights_of(
        replace(config, train=replace(config.train, compile=False)), data
    )
    fast, _ = with_weights_of(replace(config, train=replace(config.train, compile=True)), data)
    given, other = in_mlx(batch), tensors(batch)
    runs = {
        "torch": lambda: theirs.train_step(other),
        "mlx": lambda: plain.train_step(given),
        "mlx compiled": lambda: fast.train_step(given),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 3):  # the first three warm up
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
