"""The training step: ACT's carry, loss, two optimizers, EMA, and the schedule of rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from examples.trm.config import Config
from examples.trm.data import Batch, Metadata, PuzzleSet
from examples.trm.device import loss_precision
from examples.trm.in_mlx.losses import LossHead
from examples.trm.in_mlx.model import Carry, InnerCarry, ModelConfig, RecursiveModel
from torch2mlx.kit.sign_optimizers import AdamATan2, sign_sgd_rows

Arrays = dict[str, mx.array]


def learning_rate(step: int, base: float, config: Config) -> float:
    """Linear from 0 for `warmup_steps`, then half a cosine down to `lr_min_ratio`."""
    options = config.train
    if step < options.warmup_steps:
        return base * step / max(1, options.warmup_steps)
    past = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    wave = 0.5 * (1 + math.cos(math.pi * past))
    return base * (options.lr_min_ratio + max(0.0, (1 - options.lr_min_ratio) * wave))


def model_options(config: Config, told: Metadata) -> dict[str, Any]:
    """What both models take: the settings, and what the data says."""
    return {
        **vars(config.model),
        "batch_size": config.train.batch_size,
        "seq_len": told.seq_len,
        "vocab_size": told.vocab_size,
        "num_puzzle_identifiers": told.num_puzzle_identifiers,
    }


def make_model(config: Config, told: Metadata) -> LossHead:
    """The model with its loss, with weights drawn anew."""
    model = RecursiveModel(ModelConfig(**model_options(config, told)))
    head = LossHead(model, loss_precision())
    mx.eval(head.parameters())
    return head


def arrays_of(carry: Carry) -> Arrays:
    """A carry as a flat dict: mx.compile takes no dataclasses."""
    data = {f"data.{name}": value for name, value in carry.data.items()}
    inner = {"z_H": carry.inner.z_H, "z_L": carry.inner.z_L}
    return {"steps": carry.steps, "halted": carry.halted, **inner, **data}


def carry_of(arrays: Arrays) -> Carry:
    """The carry again."""
    data = {n.removeprefix("data."): v for n, v in arrays.items() if n.startswith("data.")}
    inner = InnerCarry(arrays["z_H"], arrays["z_L"])
    return Carry(inner=inner, steps=arrays["steps"], halted=arrays["halted"], data=data)


def in_mlx(batch: Batch) -> Arrays:
    """A batch as arrays."""
    return {name: mx.array(value) for name, value in batch.items()}


def means(metrics: dict[str, Any], batch_size: int) -> dict[str, float]:
    """Sums of a call as means: losses over the batch, the rest over the puzzles that halted."""
    count = max(metrics["count"], 1)
    return {
        name: value / (batch_size if name.endswith("loss") else count)
        for name, value in metrics.items()
        if name != "count"
    }


class Trainer:
    """A run: the model, its optimizers, the carry between batches, the averaged weights."""

    def __init__(self, config: Config, head: LossHead) -> None:
        self.config, self.head = config, head
        options = config.train
        self.optimizer = AdamATan2(0.0, (options.beta1, options.beta2), options.weight_decay)
        self.optimizer.init(self._dense(head.trainable_parameters()))
        self.average = tree_map(mx.array, self._dense(head.trainable_parameters()))
        self.step, self.carry = 0, None
        self._compiled: Callable[..., Any] | None = None

    def _dense(self, tree: Any) -> Any:
        """Without the leaf of the sparse embedding, which has an optimizer of its own."""
        flat = [(n, v) for n, v in tree_flatten(tree) if not n.endswith(".local_weights")]
        return tree_unflatten(flat)

    def train_step(self, batch: Arrays) -> dict[str, Any]:
        """One call of the model and one step of the optimizers: sums over what halted."""
        options = self.config.train
        self.step += 1
        mx.random.seed(options.seed * 1_000_003 + self.step)  # so that a resumed run draws the same
        carry = self.carry or arrays_of(self.head.model.initial_carry(batch))
        rates = [
            mx.array(learning_rate(self.step, base, self.config))
            for base in (options.lr, options.puzzle_lr)
        ]
        run = self._compiled_step() if options.compile else self._plain_step
        self.carry, metrics = run(carry, batch, *rates)
        mx.eval(self.carry, metrics, self.head.parameters(), self.optimizer.state, self.average)
        return {name: value.item() for name, value in metrics.items()}

    def _compiled_step(self) -> Callable[..., Any]:
        if self._compiled is None:
            state = [self.head.state, self.optimizer.state, self.average, mx.random.state]
            self._compiled = mx.compile(self._plain_step, inputs=state, outputs=state)
        return self._compiled

    def _plain_step(self, carry: Arrays, batch: Arrays, rate: mx.array, puzzle_rate: mx.array):
        options = self.config.train

        def loss_fn(head: LossHead) -> Any:
            after, loss, metrics, _ = head(carry_of(carry), batch)
            return loss / options.batch_size, arrays_of(after), metrics

        (_, after, metrics), gradients = nn.value_and_grad(self.head, loss_fn)(self.head)
        self._step_rows(after, gradients, puzzle_rate)
        self.optimizer.learning_rate = rate
        self.optimizer.update(self.head, self._dense(gradients))
        mixed = tree_map(
            lambda a, p: options.ema * a + (1 - options.ema) * p,
            self.average,
            self._dense(self.head.trainable_parameters()),
        )
        self.average.update(mixed)
        return after, metrics

    def _step_rows(self, after: Arrays, gradients: Any, rate: mx.array) -> None:
        """sign-SGD on the rows of the puzzles of this call."""
        inner = self.head.model.inner
        if "puzzle_emb" not in inner:
            return
        gradient = gradients["model"]["inner"]["puzzle_emb"]["local_weights"]
        decay = self.config.train.puzzle_weight_decay
        ids = after["data.puzzle_identifiers"]
        inner.puzzle_emb.weights = sign_sgd_rows(
            inner.puzzle_emb.weights, ids, gradient, rate, decay
        )

    def averaged(self) -> LossHead:
        """A model with the averaged weights, for evaluation; buffers are the trained model's."""
        model = RecursiveModel(self.head.model.config)
        made = LossHead(model, loss_precision())
        made.update(self.head.parameters())
        made.update(self.average)
        return made.eval()


def batches(data: PuzzleSet, config: Config, done: int = 0) -> Iterator[Arrays]:
    """Batches without an end, from the one after `done`: what a resumed run goes on with."""
    options, epoch, seen = config.train, 0, 0
    while True:
        epoch += 1
        for batch in data.training(
            options.batch_size, options.seed, epoch, epochs=_passes(data, config)
        ):
            seen += 1
            if seen > done:
                yield in_mlx(batch)
        if not seen:
            raise ValueError(f"batch_size {options.batch_size}: larger than the set has puzzles")


def _passes(data: PuzzleSet, config: Config) -> int:
    """Passes that are shuffled together, so that small sets fill batches."""
    return max(1, -(-4 * config.train.batch_size // data.metadata.total_groups))
