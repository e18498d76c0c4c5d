"""The adapter_config.json of PEFT: read, checked, and what of it decides about the numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.source.directory import read_json
from torch2mlx.common.amounts import listed
from torch2mlx.errors import CheckpointError

CONFIG = "adapter_config.json"
#: A configuration names modules; far fewer bytes than this do.
MAX_CONFIG_BYTES = 16_000_000
MAX_RANK = 1 << 20
#: Ways to begin that leave the base weights as they are.
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")
#: Entries that say how an adapter was made, kept or found, and nothing of what it computes.
_SILENT = frozenset(
    {
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
        *("revision", "inference_mode", "target_modules", "exclude_modules", "fan_in_fan_out"),
        *("layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size"),
        *("eva_config", "runtime_config", "velora_config", "ensure_weight_tying"),
        *("_custom_modules", "enable_lora", "merge_weights"),
        *("r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "modules_to_save", "use_dora"),
        *("rank_pattern", "alpha_pattern", "lora_bias", "target_parameters", "init_lora_weights"),
    }
)
#: Patterns are regular expressions of a stranger; those that could take for ever are not run.
_MAX_PATTERN = 300
_NESTED = re.compile(r"[)\]][*+{]|[*+}][*+{]|(?:[*+{].*){6}")
_ABSENT = object()


@dataclass(frozen=True)
class Settings:
    """What a configuration of LoRA says; `content` is all of it, as it was read.

    `rank` and `alpha` hold for modules that no pattern names. `unknown` are entries that say
    something, and nothing that is known here.
    """

    path: str
    content: Mapping[str, Any]
    rank: int
    alpha: float
    dropout: float
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def flag(self, name: str) -> bool:
        """Whether an entry says yes."""
        return bool(self.content.get(name))

    @property
    def bias(self) -> str:
        return str(self.content.get("bias", "none"))

    @cached_property
    def saved(self) -> tuple[str, ...]:
        """Modules that were trained whole."""
        return tuple(self.content.get("modules_to_save") or ())

    def rank_of(self, module: str) -> int:
        """The rank that a module's matrices have."""
        return int(_matching(self.rank_pattern, module, self.rank, self.path))

    def scale_of(self, module: str) -> float:
        """What a module's update is multiplied by."""
        alpha = _matching(self.alpha_pattern, module, self.alpha, self.path)
        rank = self.rank_of(module)
        return float(alpha / math.sqrt(rank) if self.flag("use_rslora") else alpha / rank)


def _matching(patterns: Mapping[str, Any], module: str, otherwise: Any, path: str) -> Any:
    """What the first pattern that matches a module's name says, as PEFT matches them."""
    for pattern, value in patterns.items():
        if pattern == module or module.endswith(f".{pattern}"):
            return value
        if len(pattern) > _MAX_PATTERN or _NESTED.search(pattern):
            raise CheckpointError(
                f"{path}: the pattern {pattern[:60]!r} is no name, and is not run as a regular "
                "expression: name the modules in it one by one"
            )
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise CheckpointError(
                f"{path}: the pattern {pattern[:60]!r} is no regular expression: {error}"
            ) from error
    return otherwise


def read_content(path: Path) -> dict[str, Any]:
    """The entries of an adapter_config.json. Raises CheckpointError for anything but an object."""
    if path.is_file() and path.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_CONFIG_BYTES // 1_000_000} MB")
    content = read_json(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: is no JSON object")
    return content


def settings(path: str, content: Mapping[str, Any]) -> Settings:
    """A configuration of LoRA, checked; its `peft_type` is not looked at.

    Raises CheckpointError, which names the entry, for one that PEFT would not have written.
    """
    _lists_of_names(path, content)
    _entry(path, content, "bias", lambda v: v in ("none", "all", "lora_only"), _BIAS, "none")
    for name in ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out"):
        _entry(path, content, name, lambda v: v is None or isinstance(v, bool), "true or false", 0)
    ranks = _pattern(path, content, "rank_pattern", _is_rank, _RANK)
    alphas = _pattern(path, content, "alpha_pattern", is_number, "a number")
    return Settings(
        path,
        content,
        _entry(path, content, "r", _is_rank, _RANK),
        _entry(path, content, "lora_alpha", is_number, "a number"),
        _entry(path, content, "lora_dropout", _is_share, "a number from 0 to below 1", 0.0),
        ranks,
        alphas,
        tuple(sorted(n for n, v in content.items() if v and n not in _SILENT)) + _start(content),
    )


_RANK = "a whole number of at least 1"
_BIAS = '"none", "all" or "lora_only"'


def _start(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The entry `init_lora_weights`, where it tells that the base weights were changed."""
    start = content.get("init_lora_weights", True)
    plain = start is None or any(start is known or start == known for known in _PLAIN_STARTS)
    return () if plain else (f"init_lora_weights={start!r:.40}",)


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RANK


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number that can be computed with."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) < 1e30


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value < 1


def _entry(
    path: str,
    content: Mapping[str, Any],
    name: str,
    fits: Callable[[Any], bool],
    wanted: str,
    otherwise: Any = _ABSENT,
) -> Any:
    value = content.get(name, otherwise)
    if value is _ABSENT:
        raise CheckpointError(f"{path}: has no {name!r}, which is {wanted}")
    if name in content and not fits(value):
        raise CheckpointError(f"{path}: {name!r} is {value!r:.60}, not {wanted}")
    return value


def _pattern(
    path: str, content: Mapping[str, Any], name: str, fits: Callable[[Any], bool], wanted: str
) -> dict[str, Any]:
    found = content.get(name) or {}
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: {name!r} is {found!r:.60}, not an object of patterns")
    for pattern, value in found.items():
        if not fits(value):
            raise CheckpointError(
                f"{path}: {name!r} has {value!r:.60} for {pattern[:60]!r}, not {wanted}"
            )
    return found


def _lists_of_names(path: str, content: Mapping[str, Any]) -> None:
    for name in ("target_modules", "exclude_modules", "modules_to_save", "target_parameters"):
        value = content.get(name)
        text = isinstance(value, str) and name in ("target_modules", "exclude_modules")
        names = isinstance(value, list) and all(isinstance(v, str) for v in value)
        if value is not None and not text and not names:
            raise CheckpointError(
                f"{path}: {name!r} is {value!r:.60}, not a list of names"
                f"{' or a pattern' if name in ('target_modules', 'exclude_modules') else ''}"
            )


def type_of(path: str, content: Mapping[str, Any]) -> str:
    """The kind of adapter that a configuration is of, as PEFT calls it: "LORA", "IA3"."""
    found = content.get("peft_type")
    if not isinstance(found, str) or not found:
        keys = f"its entries are {listed(content, 3)}" if content else "it is empty"
        raise CheckpointError(f"{path}: names no peft_type, as an adapter of PEFT does: {keys}")
    return found
