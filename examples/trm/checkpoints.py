"""Everything that a run needs to go on: weights, averages, optimizer, carry.

Draws need no state: each step seeds its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from examples.trm.config import Config, ConfigError, from_mapping
from examples.trm.training import Trainer
from torch2mlx import kit


def save(trainer: Trainer, folder: Path) -> None:
    """Writes a checkpoint into a folder: whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        "weights": kit.files.state_dict(trainer.head),
        "average": dict(tree_flatten(trainer.average)),
        "optimizer": dict(tree_flatten(trainer.optimizer.state)),
        "carry": dict(trainer.carry or {}),
    }
    flat = {
        f"{part}/{name}": value for part, values in held.items() for name, value in values.items()
    }
    told = {"step": str(trainer.step), "config": trainer.config.to_json()}
    part = folder / "checkpoint.part.safetensors"
    mx.save_safetensors(str(part), flat, told)
    part.replace(folder / "checkpoint.safetensors")


def read(folder: Path) -> tuple[dict[str, dict[str, mx.array]], int, Config]:
    """(arrays by part, step, settings). Raises ConfigError where there is no checkpoint."""
    place = folder / "checkpoint.safetensors"
    if not place.is_file():
        raise ConfigError(f"{place}: no such file; train first, or give the folder of a run")
    flat, told = mx.load(str(place), return_metadata=True)
    if "config" not in told:
        raise ConfigError(f"{place}: not written by this package")
    parts: dict[str, dict[str, mx.array]] = {}
    for name, value in flat.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = value
    return parts, int(told["step"]), from_mapping(json.loads(told["config"]))


def restore(trainer: Trainer, folder: Path) -> None:
    """Puts a run where its checkpoint was. Raises ConfigError for a run with other settings."""
    parts, step, config = read(folder)
    if config.model != trainer.config.model:
        raise ConfigError(f"{folder}: its checkpoint is of a model with other settings")
    kit.files.load_state_dict(trainer.head, parts["weights"], strict=True)
    trainer.average.update(tree_unflatten(list(parts["average"].items())))
    trainer.optimizer.state = tree_unflatten(list(parts["optimizer"].items()))
    trainer.carry = parts.get("carry") or None
    trainer.step = step
