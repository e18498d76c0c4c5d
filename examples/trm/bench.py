"""Seconds of a training step in MLX and torch, side by side: medians of alternating rounds."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from examples.trm.beside import TorchTrainer, tensors, torch_model
from examples.trm.config import Config
from examples.trm.data import PuzzleSet
from examples.trm.training import Trainer, in_mlx, make_model
from torch2mlx import convert, kit, load_converted


def with_weights_of(config: Config, data: PuzzleSet) -> tuple[Trainer, TorchTrainer]:
    """Both trainers with torch's first weights, carried over by `convert`."""
    theirs = torch_model(config, data.metadata)
    ours = make_model(config, data.metadata)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        convert(theirs, path, on_unmapped="ignore")
        kit.files.load_state_dict(ours, load_converted(path), strict=True)
        mx.eval(ours.parameters())
    ours.train(), theirs.train()
    return Trainer(config, ours), TorchTrainer(config, theirs)


def seconds(root: Path, config: Config, rounds: int = 15) -> dict[str, float]:
    """Median seconds of a step: torch eager, MLX, MLX compiled. Raises DataError."""
    data = PuzzleSet(root, "train")
    (batch,) = [
        b for b, _ in zip(data.training(config.train.batch_size, 0, 1, 99), [0], strict=False)
    ]
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
