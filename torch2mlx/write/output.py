"""The write stage: a plan becomes one file, or a directory of shards in mlx-lm's layout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx.errors import CheckpointError, ConversionError
from torch2mlx.read.files import scan_safetensors
from torch2mlx.types import Piece, Plan, Progress
from torch2mlx.write.marker import digest, marker, part_marker
from torch2mlx.write.safetensors_file import write_safetensors
from torch2mlx.write.schema import KEY
from torch2mlx.write.transaction import swap_folder, sync_folder, temporary_file, temporary_folder

#: Files of a checkpoint directory that MLX programs need beside the weights.
_COMPANIONS = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.md")
_FOLDER_SIDECAR = "originals.torch.safetensors"
_SIDECAR_KEY = "torch2mlx_sidecar_of"


@dataclass(frozen=True)
class Output:
    """Where to write, and what to say in the files."""

    path: Path
    writer: str
    values: Mapping[str, Any]
    progress: Progress | None = None
    threads: int = 0


@dataclass(frozen=True)
class Written:
    """The files of a finished conversion, and their size in bytes."""

    files: tuple[str, ...]
    sidecar: str | None
    nbytes: int


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConversionError(f"{folder}: is no folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConversionError(f"{folder}: is not writable")


def write_file(plan: Plan, out: Output) -> Written:
    """One .safetensors file, and its sidecar when the plan has one.

    Order of the last steps: old target away, sidecar in place, target in place. Stopped in
    between, there is no target: never one beside a sidecar that is not its own.
    """
    target = out.path
    _check_folder(target.parent)
    if target.is_dir():
        raise ConversionError(f"{target}: is a folder")
    beside = target.with_name(f"{target.stem}.torch.safetensors")
    stale = _own_sidecar(beside)
    with temporary_file(target) as (fd, temporary):
        if not plan.sidecar:
            meta = marker(plan, out.writer, out.values, None)
            size = write_safetensors(fd, plan.pieces, meta, out.progress, out.threads)
            os.rename(temporary, target)
            if stale:
                beside.unlink()
            sync_folder(target.parent)
            return Written((os.fspath(target),), None, size)
        if beside.exists() and not stale:
            raise ConversionError(f"{beside}: is in the way of the sidecar; move it elsewhere")
        with temporary_file(beside) as (side_fd, side):
            kept = write_safetensors(side_fd, plan.sidecar, _sidecar_metadata(target.name))
            named = {"file": beside.name, "sha256": digest(side)}
            meta = marker(plan, out.writer, out.values, named)
            size = write_safetensors(fd, plan.pieces, meta, out.progress, out.threads)
            with suppress(FileNotFoundError):
                target.unlink()
            os.rename(side, beside)
            os.rename(temporary, target)
            sync_folder(target.parent)
    return Written((os.fspath(target),), os.fspath(beside), size + kept)


def _metadata(path: Path) -> Mapping[str, str]:
    """The metadata of a safetensors file, {} for anything else."""
    try:
        return scan_safetensors(path)[1]
    except CheckpointError:
        return {}


def _own_sidecar(path: Path) -> bool:
    """Whether an earlier conversion wrote this file as its sidecar."""
    return path.is_file() and _SIDECAR_KEY in _metadata(path)


def _sidecar_metadata(name: str) -> dict[str, str]:
    return {"format": "pt", _SIDECAR_KEY: name}


def shards(pieces: Sequence[Piece], limit: int) -> list[list[Piece]]:
    """Pieces in files of at most `limit` bytes each (a larger tensor gets its own)."""
    files: list[list[Piece]] = [[]]
    held = 0
    for piece in pieces:
        if files[-1] and held + piece.nbytes > limit:
            files.append([])
            held = 0
        files[-1].append(piece)
        held += piece.nbytes
    return files


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copy_companions(source: Path, target: Path) -> None:
    """Config, tokenizer and the like; not the index of the torch weights."""
    for pattern in _COMPANIONS:
        for path in source.glob(pattern):
            if path.is_file() and not path.name.endswith(".index.json"):
                shutil.copyfile(path, target / path.name)
                _sync_file(target / path.name)


def _keep_others(old: Path, new: Path) -> None:
    """Carries over what the old folder has beside weights of an earlier conversion."""
    for path in old.iterdir() if old.is_dir() else ():
        ours = path.name.startswith("model") and path.name.endswith((".safetensors", ".index.json"))
        if ours or path.name == _FOLDER_SIDECAR or (new / path.name).exists():
            known = path.suffix == ".json" or {KEY, _SIDECAR_KEY} & _metadata(path).keys()
            if path.suffix == ".safetensors" and not known:
                raise ConversionError(
                    f"{path}: was not written by torch2mlx and would be replaced; move it elsewhere"
                )
            continue
        if path.is_dir():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=os.link)
        else:
            os.link(path, new / path.name, follow_symlinks=False)


def _write_new(
    path: Path, pieces: Sequence[Piece], metadata: Mapping[str, str], out: Output
) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        return write_safetensors(fd, pieces, metadata, out.progress, out.threads)
    finally:
        os.close(fd)


def _write_index(folder: Path, names: Sequence[str], files: Sequence[Sequence[Piece]]) -> None:
    placed = {p.target: name for name, pieces in zip(names, files, strict=True) for p in pieces}
    size = sum(piece.nbytes for pieces in files for piece in pieces)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(placed.items()))}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=2) + "\n")
    _sync_file(path)


def write_folder(plan: Plan, out: Output, shard_size: int, companions: Path | None) -> Written:
    """A directory as mlx-lm reads it: shards, index, config and tokenizer files.

    It appears complete under its name, or the old one stays.
    """
    target = out.path
    _check_folder(target.parent)
    if target.exists() and not target.is_dir():
        raise ConversionError(f"{target}: is a file")
    files = shards(plan.pieces, shard_size)
    names = _shard_names(len(files))
    with temporary_folder(target) as (_, folder):
        size, named = 0, None
        if plan.sidecar:
            path = folder / _FOLDER_SIDECAR
            size += _write_new(path, plan.sidecar, _sidecar_metadata(names[0]), out)
            named = {"file": path.name, "sha256": digest(path)}
        meta = marker(plan, out.writer, out.values, named)
        for name, pieces in zip(names, files, strict=True):
            size += _write_new(folder / name, pieces, meta, out)
            meta = part_marker(names[0])
        _write_index(folder, names, files)
        if companions is not None:
            _copy_companions(companions, folder)
        _keep_others(target, folder)
        sync_folder(folder)
        swap_folder(folder, target)
    sidecar = os.fspath(target / _FOLDER_SIDECAR) if plan.sidecar else None
    return Written(tuple(os.fspath(target / name) for name in names), sidecar, size)
