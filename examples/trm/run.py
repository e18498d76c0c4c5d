"""A training run in a folder: trained, evaluated, checkpointed, resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx

from examples.trm import checkpoints
from examples.trm.config import Config
from examples.trm.data import PuzzleSet
from examples.trm.evaluation import evaluate
from examples.trm.logs import Log
from examples.trm.training import Trainer, batches, make_model, means


def train(
    data: Path, out: Path, config: Config, resume: bool = False, quiet: bool = False
) -> dict[str, float]:
    """Trains to the last step of the settings; the evaluation at the end.

    Raises DataError and ConfigError for folders and settings that are not right.
    """
    shown, held = PuzzleSet(data, "train"), PuzzleSet(data, "test")
    options = config.train
    mx.random.seed(options.seed)
    trainer = Trainer(config, make_model(config, shown.metadata))
    if resume:
        checkpoints.restore(trainer, out)
    log = Log(out, quiet)
    (out / "config.json").write_text(config.to_json())
    score = lambda: evaluate(trainer.averaged(), held, options.batch_size)  # noqa: E731
    given = batches(shown, config, done=trainer.step)
    return loop(trainer, given, score, log, save=lambda: checkpoints.save(trainer, out))


def loop(
    trainer: Any,
    given: Iterable[Any],
    score: Callable[[], dict[str, float]],
    log: Log,
    save: Callable[[], None],
) -> dict[str, float]:
    """Steps of a trainer in either framework, to the last of its settings; the last scores."""
    options, results = trainer.config.train, None
    for batch in given if trainer.step < options.steps else ():
        trainer.head.train()
        metrics = trainer.train_step(batch)
        if trainer.step % options.log_every == 0 or trainer.step == 1:
            log.record("train", trainer.step, **means(metrics, options.batch_size))
        last = trainer.step == options.steps
        if trainer.step % options.evaluate_every == 0 or last:
            results = score()
            log.record("test", trainer.step, **results)
        if trainer.step % options.checkpoint_every == 0 or last:
            save()
        if last:
            break
    return score() if results is None else results
