"""Converted files back in memory: as MLX arrays, or as numpy views of the mapped file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from torch2mlx import _core
from torch2mlx.checkpoint.formats.marker import read_digests, read_marker
from torch2mlx.checkpoint.formats.schema import Marker, Part
from torch2mlx.checkpoint.source import foreign
from torch2mlx.checkpoint.source.directory import checkpoint_files
from torch2mlx.checkpoint.source.files import read_safetensors
from torch2mlx.common.collecting import paused
from torch2mlx.common.optional import installed, need
from torch2mlx.errors import CheckpointError, NotConvertedError, Torch2MLXError
from torch2mlx.types import LARGEST_SIZE, oversized

_PLAIN_VIEW = {"bfloat16": np.uint16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8}
#: What mx.load cannot read (it refuses the whole file) or reads as another dtype.
_NOT_IN_MX_LOAD = {"float64", "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"}


def converted_files(path: Path) -> list[Path]:
    """The files of a converted checkpoint. Raises CheckpointError when there are none."""
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointError(foreign.missing(os.fspath(path)))
        foreign.refuse_file(path, converted=True)
        return [path]
    foreign.refuse_folder(path)
    if _has_index(path):
        return checkpoint_files(path)[0]
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    if (path / "model.py").is_file() and (path / "weights.safetensors").is_file():
        return [path / "weights.safetensors"]  # a translation, whose weights may be converted ones
    raise NotConvertedError(f"{path}: has no model.safetensors, so convert did not write it")


def _has_index(path: Path) -> bool:
    return (path / "model.safetensors.index.json").is_file()


#: How often a checkpoint is read that is replaced meanwhile.
MAX_READS = 100
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint, opened: tensors by file, borrowed from it, and the plan.

    `digests`: (dtype, digest) of computed tensors as they were written.
    """

    files: Mapping[Path, Mapping[str, _core.Tensor]]
    plan: Marker
    first: Path  # the file that has the plan; a sidecar lies beside it
    digests: Mapping[str, tuple[str, str]]

    def tensors(self) -> dict[str, _core.Tensor]:
        """All tensors, by name."""
        return {name: t for tensors in self.files.values() for name, t in tensors.items()}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when another file or folder takes a path's place."""
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino, found.st_ctime_ns
    return None


def undisturbed(path: Path, read: Callable[[], _Found]) -> _Found:
    """What `read` finds in a converted checkpoint, files of one conversion all of them.

    Reads again when a new conversion took its place meanwhile. Raises what `read` does, and
    CheckpointError for a checkpoint that is being replaced all the time.
    """
    for _ in range(MAX_READS):
        before, around = _stamp(path), _stamp(path.parent)
        try:
            found = read()
        except (Torch2MLXError, OSError, KeyError):
            if _stamp(path) == before and _stamp(path.parent) == around:
                raise
            continue
        if _stamp(path) == before:
            return found
    raise CheckpointError(f"{path}: is being replaced all the time; try again")


@paused()
def open_converted(path: Path) -> Converted:
    """Opens a converted file or directory; each header is read once.

    Raises NotConvertedError for files that `convert` did not write, and for single shards,
    CheckpointError for shards that do not belong together.
    """
    files: dict[Path, dict[str, _core.Tensor]] = {}
    digests: dict[str, tuple[str, str]] = {}
    plans: dict[Path, Marker] = {}
    parts: dict[Path, str] = {}
    owner: dict[str, Path] = {}
    for file in converted_files(path):
        files[file], metadata = read_safetensors(file)
        for name in files[file]:
            if owner.setdefault(name, file) != file:
                raise CheckpointError(f"{path}: {name!r} is in {owner[name].name} and {file.name}")
        content = read_marker(file, metadata)
        digests.update(read_digests(file, metadata))
        if isinstance(content, Part):
            parts[file] = content.part_of
        else:
            plans[file] = content
    if not plans:
        raise NotConvertedError(f"{file}: is one shard of a checkpoint; pass its directory")
    (first, plan), *others = plans.items()
    strangers = [*(file for file, _ in others), *(f for f, n in parts.items() if n != first.name)]
    if strangers:
        raise CheckpointError(f"{strangers[0]}: is no shard of the checkpoint of {first.name}")
    return Converted(files, plan, first, digests)


def array(tensor: _core.Tensor) -> np.ndarray[Any, Any]:
    """A numpy view of a tensor; bfloat16 and float8 take their types from ml_dtypes."""
    plain = np.asarray(tensor)
    if tensor.dtype not in _PLAIN_VIEW:
        return plain
    need(f"{tensor.dtype} in numpy", "ml_dtypes")
    import ml_dtypes

    return plain.view(_PLAIN_VIEW[tensor.dtype]).view(getattr(ml_dtypes, tensor.dtype))


def default_framework() -> Literal["mlx", "numpy"]:
    """ "mlx" where it is installed, else "numpy"."""
    return "mlx" if installed("mlx") else "numpy"


def mlx_array(tensor: _core.Tensor) -> Any:
    """One tensor as an mx.array, exactly; float64 lives on MLX's CPU device only."""
    need("an array of MLX", "mlx")
    import mlx.core as mx

    name = next(mlx for torch, _, _, mlx, _ in _core.DTYPES if torch == tensor.dtype)
    if tensor.dtype == "bfloat16":
        return mx.array(np.asarray(tensor).view(np.uint16)).view(mx.bfloat16)
    if tensor.dtype == "float64":
        return mx.array(np.asarray(tensor), dtype=mx.float64)
    if tensor.dtype.startswith("float8"):
        return mx.array(np.asarray(tensor).view(np.uint8))
    return mx.array(np.asarray(tensor), dtype=getattr(mx, name))


def mlx_arrays(converted: Converted) -> dict[str, Any]:
    """MLX arrays: by mx.load, which reads lazily, where it reads every dtype of the file.

    Raises UnsupportedTensorError for a dimension that MLX, which counts in 32 bits, cannot hold.
    """
    need("reading as arrays of MLX", "mlx")
    arrays: dict[str, Any] = {}
    for file, tensors in converted.files.items():
        for name, tensor in tensors.items():
            if max(tensor.shape, default=0) > LARGEST_SIZE:
                raise oversized(f"{file}: tensor {name!r}", tensor.shape)
        loaded = None
        if not any(t.dtype in _NOT_IN_MX_LOAD for t in tensors.values()):
            loaded = _mx_load(file)
        if loaded is None:
            loaded = {name: mlx_array(tensor) for name, tensor in tensors.items()}
        arrays.update({name: loaded[name] for name in tensors})
    return arrays


def _mx_load(file: Path) -> Any:
    """What mx.load reads; None for a header that is sound, and spelled as MLX does not read it."""
    import mlx.core as mx

    try:
        return mx.load(os.fspath(file))
    except (RuntimeError, ValueError):
        return None


def expand_ties(arrays: dict[str, Any], ties: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Adds the tied names, as further references to the same arrays."""
    for name, first in ties.items():
        if first not in arrays:
            raise CheckpointError(f"{path}: {name!r} is tied to {first!r}, which is not there")
        arrays[name] = arrays[first]
    return arrays
