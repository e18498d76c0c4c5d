"""Training steps of ported scripts beside steps as mlx-examples write them, both compiled."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten

from bench import hand
from bench.measure import Goal, Rows, report
from torch2mlx import port
from torch2mlx.kit import compiling

SCRIPTS = Path(__file__).parent / "scripts"
#: Steps of one turn.
STEPS = 20


def ported(name: str) -> Any:
    """A script of bench/scripts in MLX, as a module."""
    made = types.ModuleType(f"ported_{name}")
    exec(compile(port(SCRIPTS / f"{name}.py").source, name, "exec"), made.__dict__)
    return made


def by_hand(model: nn.Module, loss: Callable[..., mx.array], optimizer: Any) -> Callable[..., Any]:
    """A loop over batches with the step of mlx-examples."""
    state = [model.state, optimizer.state, mx.random.state]
    loss_and_grad = nn.value_and_grad(model, loss)

    @partial(mx.compile, inputs=state, outputs=state)
    def step(*batch: mx.array) -> mx.array:
        value, gradients = loss_and_grad(model, *batch)
        optimizer.update(model, gradients)
        return value

    def train(batches: list[Any]) -> list[float]:
        losses = []
        for batch in batches:
            value = step(*batch)
            mx.eval(state)
            losses.append(value.item())
        return losses

    return train


def images(draw: Any, n: int, channels: int, size: int) -> Any:
    return draw.rand(n, channels, size, size).astype(np.float32)


def cases() -> Iterator[tuple[str, Any, Any, Callable[[Any], list[Any]], Callable[[Any], Any]]]:
    """(name, model by hand, its loss, batches of numpy, what of a batch the hand-written model
    takes)."""
    draw = np.random.RandomState(0)

    def several(make: Callable[[], tuple[Any, ...]]) -> list[Any]:
        return [make() for _ in range(STEPS)]

    flat = several(lambda: (draw.rand(128, 784).astype(np.float32), draw.randint(0, 10, 128)))
    yield "mlp", hand.MLP(), hand.classified, flat, lambda batch: batch
    digits = several(lambda: (images(draw, 32, 1, 28), draw.randint(0, 10, 32)))
    yield "cnn", hand.CNN(), hand.classified, digits, hand.last
    words = several(lambda: (draw.randint(0, 64, (8, 64)), draw.randint(0, 64, (8, 64))))
    yield "gpt", hand.GPT(), hand.predicted, words, lambda batch: batch
    yield "lstm", hand.Words(), hand.predicted, words, lambda batch: batch
    noisy = several(lambda: (images(draw, 8, 3, 16), draw.rand(8).astype(np.float32),
                             images(draw, 8, 3, 16)))  # fmt: skip
    yield "unet", hand.UNet(), hand.denoised, noisy, hand.last


def steps(folder: Path) -> Rows:
    """Twenty steps of five ported scripts beside the same written by hand."""
    compiling.WAIT["cpu"] = 1
    rows: Rows = []
    for name, model, loss, batches, turned in cases():
        script = ported(name)
        ours = script.Net()
        arrays = [tuple(map(mx.array, batch)) for batch in batches]
        theirs = [tuple(map(mx.array, turned(batch))) for batch in batches]
        mx.eval(arrays, theirs, model.parameters(), ours.parameters())
        count = [sum(p.size for _, p in tree_flatten(m.parameters())) for m in (ours, model)]
        optimizer = script.optimizer_of(ours)
        other = by_hand(model, loss, optim.AdamW(1e-3, weight_decay=0.01, bias_correction=True))
        print(f"\n{name}: {count[0]:,} parameters, {count[1]:,} by hand")
        contenders: dict[str, Callable[[], object]] = {
            "torch2mlx": partial(script.train, ours, optimizer, arrays),
            "by hand": partial(other, theirs),
        }
        title = f"{STEPS} training steps of {name}"
        rows += report(title, contenders, (Goal(("by hand",), 1.0),), rounds=7)
    return rows
