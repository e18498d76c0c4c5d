"""Settings of a run: read from JSON, checked by name and type."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """A setting that does not exist, or has a value of another kind."""


@dataclass
class ModelOptions:
    """Those of ModelConfig that the data does not fix."""

    hidden_size: int = 64
    num_heads: int = 4
    expansion: float = 4.0
    L_layers: int = 2
    H_cycles: int = 2
    L_cycles: int = 2
    pos_encodings: str = "learned"
    mlp_t: bool = False
    puzzle_emb_ndim: int = 0
    puzzle_emb_len: int = 0
    halt_max_steps: int = 4
    halt_exploration_prob: float = 0.1
    forward_dtype: str = "float32"


@dataclass
class TrainOptions:
    """How long and how fast. `lr_min_ratio` is where the cosine ends, over `lr`."""

    batch_size: int = 64
    steps: int = 1500
    lr: float = 1e-3
    lr_min_ratio: float = 0.1
    warmup_steps: int = 50
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    puzzle_lr: float = 1e-2
    puzzle_weight_decay: float = 0.1
    ema: float = 0.99
    seed: int = 0
    compile: bool = True
    checkpoint_every: int = 500
    evaluate_every: int = 250
    log_every: int = 50


@dataclass
class Config:
    """A run: model, training."""

    model: ModelOptions = field(default_factory=ModelOptions)
    train: TrainOptions = field(default_factory=TrainOptions)

    def to_json(self) -> str:
        """As `read` takes it."""
        return json.dumps(dataclasses.asdict(self), indent=1)


_KINDS: dict[str, tuple[type, ...]] = {
    **{"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)},
}


def _section(kind: Any, given: Any, name: str) -> Any:
    if not isinstance(given, dict):
        raise ConfigError(f"{name}: must be an object of settings, not {given!r}")
    known = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    for key, value in given.items():
        if key not in known:
            options = ", ".join(sorted(known))
            raise ConfigError(f"{name}.{key}: there is no such setting; there are {options}")
        wanted = _KINDS[known[key]]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise ConfigError(f"{name}.{key}: {value!r} is no {known[key]}")
    return kind(**given)


def from_mapping(given: Any) -> Config:
    """Settings from nested dicts. Raises ConfigError, which names the setting."""
    if not isinstance(given, dict):
        raise ConfigError("settings must be an object with `model` and `train`")
    unknown = sorted(set(given) - {"model", "train"})
    if unknown:
        raise ConfigError(f"{unknown[0]}: there is no such section; there are model, train")
    model = _section(ModelOptions, given.get("model", {}), "model")
    return Config(model, _section(TrainOptions, given.get("train", {}), "train"))


def read(path: str | Path | None) -> Config:
    """The settings in a JSON file; those by default without one. Raises ConfigError."""
    if path is None:
        return Config()
    place = Path(path)
    if not place.is_file():
        raise ConfigError(f"{place}: no such file")
    try:
        return from_mapping(json.loads(place.read_text(encoding="utf-8")))
    except json.JSONDecodeError as problem:
        raise ConfigError(f"{place}:{problem.lineno}: no JSON: {problem.msg}") from problem
    except ConfigError as problem:
        raise ConfigError(f"{place}: {problem}") from problem
