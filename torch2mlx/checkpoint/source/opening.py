"""The read stage: a module, state dict, file or directory becomes a Checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.formats.schema import KEY
from torch2mlx.checkpoint.source import foreign
from torch2mlx.checkpoint.source.arguments import check_text, of_part
from torch2mlx.checkpoint.source.directory import checkpoint_files
from torch2mlx.checkpoint.source.entries import flatten_entries
from torch2mlx.checkpoint.source.expanded import refuse_expanded
from torch2mlx.checkpoint.source.files import (
    is_safetensors,
    scan_safetensors,
    unsupported,
)
from torch2mlx.checkpoint.source.module_tree import describe, is_module, state_of
from torch2mlx.checkpoint.source.nested import ROOT, find_state_dict
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.checkpoint.source.tensors import Check, borrow, borrow_plain
from torch2mlx.common import options
from torch2mlx.common.collecting import paused
from torch2mlx.common.torch_file import read_torch
from torch2mlx.errors import (
    AlreadyConvertedError,
    AmbiguousCheckpointError,
    CheckpointError,
    ConversionError,
    KeyCollisionError,
)
from torch2mlx.types import Borrowed, Checkpoint, TensorSource, Unreadable


@dataclass(frozen=True)
class _Options:
    """How files are opened: see `open_checkpoint`."""

    key: str | None = None
    listing: bool = False
    verify: bool = True
    expand: bool = False
    adapter: bool = False


@paused()
def open_checkpoint(
    source: Any,
    key: str | None = None,
    *,
    listing: bool = False,
    verify: bool = True,
    expand: bool = False,
    adapter: bool = False,
) -> Checkpoint:
    """Opens any source of `convert`; no tensor is copied.

    `key` picks a state dict inside a nested checkpoint. `listing`: tensors whose bytes are not
    wanted may be `Unreadable`, where their shape is known. `verify`: whether the checksum of a
    storage is compared when a tensor of it is first loaded, with CheckpointError where it is
    wrong. `expand`: whether views may claim far more bytes than a file holds (when listed, they
    may). `adapter`: whether one of PEFT may lie in the folder of a model, and be left alone.

    Raises CheckpointError for files that cannot be read, AmbiguousCheckpointError when `key` is
    needed, AlreadyConvertedError for what is in MLX layout already, UnsupportedTensorError for
    tensors without an exact MLX form, and ConversionError for anything that is no source at all.
    """
    check_text("key", key)
    opened = _open(source, key, _Options(key, listing, verify, expand, adapter))
    if not listing:
        foreign.refuse_packed(opened.tensors, opened.origin)
    return opened


def _open(source: Any, key: str | None, given: _Options) -> Checkpoint:
    if isinstance(source, (str, os.PathLike)):
        opened = _from_path(os.fspath(source), given)
        foreign.refuse_adapter(opened.tensors, opened.origin)
        return opened
    if is_module(source):
        if key is not None:
            raise of_part("key", key)
        state = state_of(source)
        tree = describe(source, state)
        return replace(_from_mapping(state, type(source).__name__), tree=tree)
    if isinstance(source, Mapping):
        _refuse_mlx(source)
        found = find_state_dict(source, key, "the state dict")
        origin = "the state dict" if found.path == ROOT else found.path
        return _with_notes(_from_mapping(found.state, origin), found.notes)
    raise ConversionError(
        f"cannot convert {type(source).__name__} objects: pass an nn.Module, a state dict, "
        "a checkpoint file or a directory with one"
    )


def _refuse_mlx(state: Mapping[Any, Any]) -> None:
    """Raises AlreadyConvertedError for a module or a dict of arrays of MLX."""
    kinds = {type(state), *map(type, state.values())}
    if any(kind.__module__.partition(".")[0] == "mlx" for kind in kinds):
        raise AlreadyConvertedError(
            "the source is of MLX already: convert takes weights of PyTorch; torch2mlx.to_torch "
            "goes back"
        )


def _from_path(text: str, options: _Options) -> Checkpoint:
    path = checked(text, "source")
    if path.is_dir():
        foreign.refuse_folder(path, options.adapter)
        return _from_directory(path, options)
    if not path.is_file():
        raise CheckpointError(foreign.missing(text))
    return _from_file(path, options)


def _with_notes(checkpoint: Checkpoint, notes: tuple[str, ...]) -> Checkpoint:
    return replace(checkpoint, notes=(*notes, *checkpoint.notes))


def _source(name: str, value: Any, origin: str, check: Check | None) -> TensorSource:
    if isinstance(value, _core.Foreign):
        error = unsupported(origin, name, value)
        return Unreadable(name, value.shape or (), value.dtype or value.name, value.nbytes, error)
    return borrow(name, value, check)


def _from_mapping(
    state: Mapping[Any, Any],
    origin: str,
    options: _Options = _Options(expand=True),
    check: Check | None = None,
) -> Checkpoint:
    made = flatten_entries(state, origin, options.listing)
    if not options.listing and not options.expand:
        refuse_expanded(made.tensors, origin)
    tensors = borrow_plain(made.tensors, check)
    for key in [key for key, value in tensors.items() if type(value) is not Borrowed]:
        tensors[key] = _source(key, tensors[key], origin, check)
    return Checkpoint(tensors, origin, made.values, notes=tuple(made.notes))


def _from_file(path: Path, options: _Options) -> Checkpoint:
    foreign.refuse_file(path)
    with foreign.named(path):
        return _opened(path, options)


@paused()
def open_adapter(path: Path, verify: bool = True) -> Checkpoint:
    """The tensors in a file with the weights of an adapter; `verify` as in `open_checkpoint`."""
    foreign.refuse_file(path, adapter=True)
    with foreign.named(path, adapter=True):
        return _opened(path, _Options(verify=verify))


def _opened(path: Path, options: _Options) -> Checkpoint:
    files = (os.fspath(path),)
    if is_safetensors(path):
        refuse_key(path, options.key)
        tensors, metadata = scan_safetensors(path)
        refuse_converted(path, metadata)
        opened = _from_mapping(tensors, os.fspath(path), replace(options, expand=True))
        return replace(opened, metadata=metadata, files=files)
    tree, checksums = read_torch(path)
    check = checksums.check if options.verify else None
    return _within(tree, path, options, check)


def _within(tree: Any, path: Path, options: _Options, check: Check | None) -> Checkpoint:
    """The state dict in what torch.save wrote."""
    found = find_state_dict(tree, options.key, os.fspath(path))
    origin = os.fspath(path) if found.path == ROOT else f"{path} [{found.path}]"
    opened = _from_mapping(found.state, origin, options, check)
    return replace(_with_notes(opened, found.notes), files=(os.fspath(path),))


@paused()
def list_parts(source: Any, keys: Iterable[str]) -> list[Checkpoint]:
    """Several state dicts of one source for listing, each as `open_checkpoint(listing=True)` has
    it; a file is read once."""
    if not isinstance(source, (str, os.PathLike)):
        return [open_checkpoint(source, key, listing=True) for key in keys]
    path = checked(os.fspath(source), "source")
    with foreign.named(path):
        tree, _ = read_torch(path)
        parts = [_within(tree, path, _Options(key, listing=True), None) for key in keys]
    for part in parts:
        foreign.refuse_adapter(part.tensors, part.origin)
    return parts


def refuse_key(path: Path, key: str | None) -> None:
    """Raises AmbiguousCheckpointError for a choice in a file that has nothing to choose from."""
    if key is not None:
        name = options.option("key")
        raise AmbiguousCheckpointError(f"{path}: holds one state dict alone: leave out {name}")


def refuse_converted(path: Path, metadata: Mapping[str, str]) -> None:
    """Raises AlreadyConvertedError for files that say that they are in MLX layout."""
    if KEY in metadata:
        raise AlreadyConvertedError(
            f"{path}: was written by torch2mlx already; use load_converted or revert on it"
        )
    if metadata.get("format") == "mlx":
        raise AlreadyConvertedError(f"{path}: its metadata says that it is in MLX layout already")


def _from_directory(path: Path, options: _Options) -> Checkpoint:
    files, weight_map = checkpoint_files(path, options.adapter)
    tensors: dict[str, TensorSource] = {}
    values: dict[str, Any] = {}
    owner: dict[str, str] = {}
    notes: list[str] = []
    for file in files:
        part = _from_file(file, options)
        for name in (*part.tensors, *part.values):
            if name in owner:
                raise KeyCollisionError(f"{path}: {name!r} is in {owner[name]} and in {file.name}")
            if weight_map is not None and weight_map.get(name) != file.name:
                raise CheckpointError(f"{file}: has {name!r}, which the index does not put there")
            owner[name] = file.name
        tensors.update(part.tensors)
        values.update(part.values)
        notes += part.notes
    lost = [name for name in weight_map or () if name not in owner]
    if lost:
        raise CheckpointError(f"{path}: the index lists {lost[0]!r}, which no shard has")
    opened = tuple(map(os.fspath, files))
    return Checkpoint(tensors, os.fspath(path), values, {}, opened, notes=tuple(notes))
