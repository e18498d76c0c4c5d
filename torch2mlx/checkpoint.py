"""The read stage: a module, state dict, file or directory becomes a Checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch2mlx import _core
from torch2mlx.collecting import paused
from torch2mlx.errors import (
    AlreadyConvertedError,
    CheckpointError,
    ConversionError,
    KeyCollisionError,
    UnsupportedTensorError,
)
from torch2mlx.read import foreign
from torch2mlx.read.directory import checkpoint_files
from torch2mlx.read.files import is_safetensors, read_torch, scan_safetensors, unsupported
from torch2mlx.read.module_tree import describe, is_module
from torch2mlx.read.nested import ROOT, find_state_dict
from torch2mlx.read.paths import checked
from torch2mlx.read.tensors import borrow, is_array
from torch2mlx.types import Checkpoint, TensorSource, Unreadable
from torch2mlx.write.schema import KEY


@paused()
def open_checkpoint(source: Any, key: str | None = None, *, listing: bool = False) -> Checkpoint:
    """Opens any source of `convert`; no tensor is copied.

    `key` picks a state dict inside a nested checkpoint. `listing`: tensors whose bytes are not
    wanted may be `Unreadable`, where their shape is known. Raises CheckpointError for files that
    cannot be read, AmbiguousCheckpointError when `key` is needed, AlreadyConvertedError for what
    is in MLX layout already, UnsupportedTensorError for tensors without an exact MLX form, and
    ConversionError for anything that is no source at all.
    """
    if isinstance(source, (str, os.PathLike)):
        opened = _from_path(os.fspath(source), key, listing)
        foreign.refuse_adapter(opened.tensors, opened.origin)
        return opened
    if is_module(source):
        tree = describe(source)
        origin = type(source).__name__
        opened = _from_mapping(source.state_dict(), origin)
        return Checkpoint(opened.tensors, origin, opened.values, tree=tree)
    if isinstance(source, Mapping):
        _refuse_mlx(source)
        where, state = find_state_dict(source, key, "the state dict")
        return _from_mapping(state, "the state dict" if where == ROOT else where)
    raise ConversionError(
        f"cannot convert a {type(source).__name__}: pass an nn.Module, a state dict, a checkpoint "
        "file or a directory with one"
    )


def _refuse_mlx(state: Mapping[Any, Any]) -> None:
    """Raises AlreadyConvertedError for a module or a dict of arrays of MLX."""
    kinds = (type(state), *(type(value) for value in state.values()))
    if any(kind.__module__.partition(".")[0] == "mlx" for kind in kinds):
        raise AlreadyConvertedError(
            "the source is of MLX already: convert takes weights of PyTorch; torch2mlx.to_torch "
            "goes back"
        )


def _from_path(text: str, key: str | None, listing: bool) -> Checkpoint:
    path = checked(text, "source")
    if path.is_dir():
        foreign.refuse_folder(path)
        return _from_directory(path, key, listing)
    if not path.is_file():
        raise CheckpointError(foreign.missing(text))
    return _from_file(path, key, listing)


def _holds_tensors(value: Any, depth: int = 8) -> bool:
    """Whether a container, or an object that torch packs weights into, has tensors in it."""
    if is_array(value) or (isinstance(value, _core.Foreign) and value.is_tensor):
        return True
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)) and depth:
        return any(_holds_tensors(item, depth - 1) for item in value)
    return type(value).__name__ == "ScriptObject"


def _from_mapping(state: Mapping[Any, Any], origin: str, listing: bool = False) -> Checkpoint:
    tensors: dict[str, TensorSource] = {}
    values: dict[str, Any] = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise ConversionError(f"{origin}: key {name!r} is no text, so this is no state dict")
        if isinstance(value, _core.Foreign) and value.is_tensor:
            error = unsupported(origin, name, value)
            if not listing or value.shape is None:
                raise error
            dtype = value.dtype or value.name
            tensors[name] = Unreadable(name, value.shape, dtype, value.nbytes, error)
        elif is_array(value):
            tensors[name] = borrow(name, value)
        elif _holds_tensors(value) and not name.endswith("_extra_state"):
            raise UnsupportedTensorError(
                f"entry {name!r}: a {type(value).__name__} with tensors in it, as quantized layers "
                "keep their weights; dequantize the model first"
            )
        else:
            values[name] = value
    return Checkpoint(tensors, origin, values)


def _from_file(path: Path, key: str | None, listing: bool) -> Checkpoint:
    foreign.refuse_file(path)
    with foreign.named(path):
        return _opened(path, key, listing)


def _opened(path: Path, key: str | None, listing: bool) -> Checkpoint:
    files = (os.fspath(path),)
    if is_safetensors(path):
        tensors, metadata = scan_safetensors(path)
        refuse_converted(path, metadata)
        opened = _from_mapping(tensors, os.fspath(path), listing)
        return Checkpoint(opened.tensors, opened.origin, {}, metadata, files)
    where, state = find_state_dict(read_torch(path), key, os.fspath(path))
    origin = os.fspath(path) if where == ROOT else f"{path} [{where}]"
    opened = _from_mapping(state, origin, listing)
    return Checkpoint(opened.tensors, origin, opened.values, {}, files)


def refuse_converted(path: Path, metadata: Mapping[str, str]) -> None:
    """Raises AlreadyConvertedError for files that say that they are in MLX layout."""
    if KEY in metadata:
        raise AlreadyConvertedError(
            f"{path}: was written by torch2mlx already; use load_converted or revert on it"
        )
    if metadata.get("format") == "mlx":
        raise AlreadyConvertedError(f"{path}: its metadata says that it is in MLX layout already")


def _from_directory(path: Path, key: str | None, listing: bool) -> Checkpoint:
    files, weight_map = checkpoint_files(path)
    tensors: dict[str, TensorSource] = {}
    values: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for file in files:
        part = _from_file(file, key, listing)
        for name in (*part.tensors, *part.values):
            if name in owner:
                raise KeyCollisionError(f"{path}: {name!r} is in {owner[name]} and in {file.name}")
            if weight_map is not None and weight_map.get(name) != file.name:
                raise CheckpointError(f"{file}: has {name!r}, which the index does not put there")
            owner[name] = file.name
        tensors.update(part.tensors)
        values.update(part.values)
    lost = [name for name in weight_map or () if name not in owner]
    if lost:
        raise CheckpointError(f"{path}: the index lists {lost[0]!r}, which no shard has")
    return Checkpoint(tensors, os.fspath(path), values, {}, tuple(map(os.fspath, files)))
