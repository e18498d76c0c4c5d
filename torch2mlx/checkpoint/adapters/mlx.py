"""An adapter of mlx-lm as it lies in a folder: its configuration, and its tensors by module."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.adapters.folder import MLX_FILE
from torch2mlx.checkpoint.adapters.settings import CONFIG, MAX_RANK, is_number, read_content
from torch2mlx.checkpoint.source.files import read_safetensors
from torch2mlx.common.amounts import listed
from torch2mlx.errors import CheckpointError, RevertError

_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_a|lora_b|m)")
_FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Update:
    """The update of one module: scale * a @ b, with `a` (in, r) and `b` (r, out).

    Of experts `a` is (experts, r, in) and `b` (experts, out, r). `magnitude` (out,) is DoRA's.
    """

    module: str
    a: _core.Tensor
    b: _core.Tensor
    magnitude: _core.Tensor | None = None

    @property
    def experts(self) -> int:
        """How many experts it is of; 0 for a single layer."""
        return self.a.shape[0] if len(self.a.shape) == 3 else 0


@dataclass(frozen=True)
class MlxAdapter:
    """An adapter of mlx-lm: `content` is all of its configuration."""

    origin: str
    content: Mapping[str, Any]
    rank: int
    scale: float
    dropout: float
    updates: Mapping[str, Update]
    folder: Path


def mlx_file(path: Path) -> Path | None:
    """The file of tensors that a path of mlx-lm's adapters means: a folder, or a file within it,
    such as those it saves while it trains. None for a path of anything else."""
    file = path / MLX_FILE if os.path.isdir(path) else path
    named = file.name.endswith(MLX_FILE) and os.path.isfile(file)
    return file if named and os.path.isfile(file.parent / CONFIG) else None


def read_mlx(file: Path) -> MlxAdapter:
    """The adapter that a file of tensors and the configuration beside it are.

    Raises CheckpointError for what is damaged, RevertError for what is no LoRA.
    """
    config = file.parent / CONFIG
    content = read_content(config)
    kind = content.get("fine_tune_type", "lora")
    if kind == "full":
        raise RevertError(
            f"{config}: fine_tune_type is 'full': whole layers were trained, which is no adapter; "
            "mlx_lm.fuse writes the model"
        )
    if kind not in ("lora", "dora"):
        raise CheckpointError(f"{config}: 'fine_tune_type' is {kind!r:.40}, not lora, dora or full")
    rank, scale, dropout = _numbers(config, content)
    tensors, _ = read_safetensors(file)
    updates = _updates(file, config, tensors, rank)
    lacking = [u.module for u in updates.values() if (u.magnitude is not None) != (kind == "dora")]
    if lacking:
        has = "no magnitude" if kind == "dora" else "a magnitude (m)"
        raise CheckpointError(f"{file}: {lacking[0]!r} has {has}, and {config} says {kind}")
    return MlxAdapter(os.fspath(file), content, rank, scale, dropout, updates, file.parent)


def _numbers(config: Path, content: Mapping[str, Any]) -> tuple[int, float, float]:
    """(rank, scale, dropout) of a configuration."""
    found = content.get("lora_parameters")
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{config}: has no 'lora_parameters', as an adapter of mlx-lm does, but "
            f"{listed(content, 3)}"
        )
    rank, scale, dropout = found.get("rank"), found.get("scale"), found.get("dropout", 0.0)
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise CheckpointError(f"{config}: 'rank' is {rank!r:.40}, not a whole number of at least 1")
    for name, value in (("scale", scale), ("dropout", dropout)):
        if not is_number(value):
            raise CheckpointError(f"{config}: {name!r} is {value!r:.40}, not a number")
    return rank, float(found["scale"]), float(dropout)


def _updates(
    file: Path, config: Path, tensors: Mapping[str, _core.Tensor], rank: int
) -> dict[str, Update]:
    parts: dict[str, dict[str, _core.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _PART.fullmatch(name)
        if match is None:
            raise CheckpointError(f"{file}: {name!r} is no tensor of an adapter of mlx-lm")
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{file}: {name!r} is {tensor.dtype}, not of floating point")
        parts.setdefault(match["module"], {})[match["part"]] = tensor
    if not parts:
        raise CheckpointError(f"{file}: holds no tensors")
    for module, own in parts.items():
        for part in ("lora_a", "lora_b"):
            if part not in own:
                there = f"{module}.{next(iter(own))}"
                raise CheckpointError(f"{file}: has {there!r} without the {part} of this module")
        _check(file, config, module, own, rank)
    return {
        module: Update(module, own["lora_a"], own["lora_b"], own.get("m"))
        for module, own in parts.items()
    }


def _check(
    file: Path, config: Path, module: str, own: Mapping[str, _core.Tensor], rank: int
) -> None:
    """Raises CheckpointError for shapes that do not go together."""
    a, b = own["lora_a"].shape, own["lora_b"].shape
    if len(a) != len(b) or len(a) not in (2, 3) or (len(a) == 3 and a[0] != b[0]):
        raise CheckpointError(f"{file}: {module!r} has lora_a {a} and lora_b {b}, no two matrices")
    # of experts the rank is the second of lora_a, the last of lora_b
    for part, size in (("lora_a", a[1]), ("lora_b", b[0] if len(b) == 2 else b[2])):
        if size != rank:
            raise CheckpointError(
                f"{file}: '{module}.{part}' is of rank {size}, and {config} says {rank}"
            )
    if "m" in own and own["m"].shape != (b[-1],):
        raise CheckpointError(
            f"{file}: '{module}.m' is {own['m'].shape}, not one number for each of {b[-1]} rows"
        )
