"""Everything in a row: puzzles, the port checked against torch, both trained, a page of curves."""

from __future__ import annotations

import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from examples.trm import checkpoints, report
from examples.trm.bench import seconds
from examples.trm.beside import tensors, with_weights_of
from examples.trm.build import build_sudoku
from examples.trm.config import Config, from_mapping
from examples.trm.data import PuzzleSet
from examples.trm.evaluation import evaluate
from examples.trm.logs import Log
from examples.trm.run import loop
from examples.trm.training import batches, in_mlx

#: Sets of the demonstration: side, holes, puzzles, settings.
SETS = {
    "sudoku 4x4": (
        *(4, 10, 2000),
        {
            "model": {"hidden_size": 32, "mlp_t": True, "L_layers": 1},
            "train": {
                **{"steps": 400, "batch_size": 32, "lr": 4e-3, "ema": 0.98},
                **{"evaluate_every": 100, "log_every": 20},
            },
        },
    ),
    "sudoku 9x9": (
        *(9, 30, 600),
        {
            "model": {"hidden_size": 32, "mlp_t": True, "L_layers": 1},
            "train": {"steps": 60, "batch_size": 16, "evaluate_every": 20, "log_every": 5},
        },
    ),
}


def parity(config: Config, data: PuzzleSet) -> dict[str, float]:
    """One training call in both frameworks from the same weights, without exploration: the largest
    differences of the loss and of gradients, each relative to the largest value."""
    calm = from_mapping({"model": {**vars(config.model), "halt_exploration_prob": 0.0}})
    calm.train = config.train
    ours, theirs = with_weights_of(calm, data)
    batch = next(data.training(config.train.batch_size, 0, 1, 99))
    given, other = in_mlx(batch), tensors(batch)
    carry = ours.head.model.initial_carry(given)
    loss_fn = lambda head: head(carry, given)[1]  # noqa: E731
    value, gradients = nn.value_and_grad(ours.head, loss_fn)(ours.head)
    loss = theirs.head(theirs.head.model.initial_carry(other), other)[1]
    loss.backward()
    found, gap = dict(tree_flatten(gradients)), 0.0
    for name, parameter in theirs.head.named_parameters():
        expected = parameter.grad.numpy()
        apart = np.abs(np.array(found[name]) - expected).max()
        gap = max(gap, float(apart / max(np.abs(expected).max(), 1e-12)))
    return {"loss": abs(value.item() - loss.item()) / abs(loss.item()), "gradients": gap}


def train_both(root: Path, out: Path, config: Config) -> dict[str, Path]:
    """Runs in MLX and torch from the same weights and batches; the folders of their records."""
    shown, held = PuzzleSet(root, "train"), PuzzleSet(root, "test")
    mx.random.seed(config.train.seed)
    ours, theirs = with_weights_of(config, shown)
    score = lambda: evaluate(ours.averaged(), held, config.train.batch_size)  # noqa: E731
    save = lambda: checkpoints.save(ours, out / "mlx")  # noqa: E731
    loop(ours, batches(shown, config), score, Log(out / "mlx"), save)
    same = (tensors({n: np.array(v) for n, v in b.items()}) for b in batches(shown, config))
    loop(theirs, same, lambda: theirs.evaluate(held), Log(out / "torch"), lambda: None)
    return {"MLX": out / "mlx", "torch": out / "torch"}


def demo(out: Path) -> int:
    """All of it; 1 when the port does not agree with torch."""
    say = lambda text: print(text, file=sys.stderr)  # noqa: E731
    worst: dict[str, float] = {}
    drawn: dict[str, dict[str, Path]] = {}
    for name, (side, holes, count, options) in SETS.items():
        root, config = out / f"{side}x{side}", from_mapping(options)
        told = build_sudoku(root / "data", side, count, 200, holes)
        say(f"\n{name}: {told.total_puzzles} puzzles of {told.seq_len} cells in {root / 'data'}")
        gaps = parity(config, PuzzleSet(root / "data", "train"))
        say("port beside torch: " + ", ".join(f"{k} {v:.1e}" for k, v in gaps.items()))
        if gaps["loss"] > 5e-6 or gaps["gradients"] > 1e-3:
            say("the port does not agree with torch")
            return 1
        worst = {k: max(v, worst.get(k, 0.0)) for k, v in gaps.items()}
        drawn[name] = train_both(root / "data", root, config)
        for label, value in seconds(root / "data", config, rounds=5).items():
            say(f"a step in {label}: {1000 * value:.0f} ms")
    report.write(out / "report.html", drawn)
    print(f"curves and figures: {out / 'report.html'}")
    shown = ", ".join(f"{k} {v:.1e}" for k, v in worst.items())
    print(f"trm: {len(drawn)} sizes trained; port beside torch at most {shown}")
    return 0
