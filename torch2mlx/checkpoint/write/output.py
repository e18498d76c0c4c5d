"""The write stage: a plan becomes one file, or a directory of shards in mlx-lm's layout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.formats.marker import digest, marker, part_marker
from torch2mlx.checkpoint.formats.schema import KEY
from torch2mlx.checkpoint.write.companions import companions, copy_companion
from torch2mlx.checkpoint.write.folder import (
    Verdict,
    check_folder,
    check_replaced,
    replaced,
    sync_file,
)
from torch2mlx.checkpoint.write.pair import commit_pair, settle, sidecar_path
from torch2mlx.checkpoint.write.replacing import (
    INDEX,
    SIDECAR_KEY,
    Guard,
    check_parent,
    file_digest,
    is_converted,
    is_sidecar_of,
    json_of,
    metadata_of,
    settled,
)
from torch2mlx.checkpoint.write.safetensors_file import write_safetensors
from torch2mlx.checkpoint.write.transaction import Staged, inherit, staged_file, status, writing
from torch2mlx.common.collecting import paused
from torch2mlx.common.lock import FolderLock
from torch2mlx.common.options import given
from torch2mlx.errors import OutOfRangeError, WriteError
from torch2mlx.types import Piece, Plan, Progress

_FOLDER_SIDECAR = "originals.torch.safetensors"
#: In the index of a folder: the digests of the companions that were copied with the weights.
_COMPANIONS_KEY = "torch2mlx_companions"


@dataclass(frozen=True)
class Output:
    """Where to write, what to say in the files, and what not to replace."""

    path: Path
    writer: str
    values: Mapping[str, Any]
    progress: Progress | None = None
    threads: int = 0
    guard: Guard = field(default_factory=Guard)


@dataclass(frozen=True)
class Written:
    """The files of a finished conversion, and their size in bytes.

    `files` hold the weights; `beside` are the index and the companions of a folder.
    """

    files: tuple[str, ...]
    sidecar: str | None
    nbytes: int
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def check_target(path: Path, single: bool, guard: Guard) -> None:
    """Raises WriteError for a path that is not to be written, before anything is read."""
    with writing(path):
        target = settled(path)
        if single:
            _check_file_early(target, guard, with_sidecar=False)
        else:
            check_folder(target, guard)


def _check_file_early(target: Path, guard: Guard, with_sidecar: bool) -> None:
    """`_check_file`, before any work, of a pair that no other writer is replacing meanwhile."""
    check_parent(target)
    with FolderLock(target.parent) as lock:
        lock.acquire()
        _check_file(target, guard, with_sidecar)


def _check_file(target: Path, guard: Guard, with_sidecar: bool) -> bool:
    """Raises WriteError unless a converted file may take this place, with a sidecar or without.

    Returns whether a sidecar of an earlier conversion lies beside it.
    """
    check_parent(target)
    guard.refuse_beside_source(target)
    weight_map = json_of(target.with_name(INDEX)).get("weight_map")
    if isinstance(weight_map, dict) and target.name in weight_map.values() and not guard.force:
        guard.refuse_source(target)
        raise WriteError(f"{target}: is a part of the checkpoint in its folder; write elsewhere")
    guard.check_file(target, is_converted)
    beside = sidecar_path(target)
    stale = is_sidecar_of(beside, target.name)
    if stale:
        guard.refuse_source(beside)
    elif with_sidecar and os.path.lexists(beside):
        guard.refuse_source(beside)
        plain = beside.is_file() and not beside.is_symlink()
        if not (guard.force and plain):
            way_out = f", or pass {given('force', True)} to replace it" if plain else ""
            raise WriteError(f"{beside}: is in the way of the sidecar; move it elsewhere{way_out}")
    return stale


def planned(plan: Plan, out: Output, shard_size: int | None, source: Path | None) -> Written:
    """What `write_file`, or `write_folder`, would write, its tensors' bytes counted.

    Raises WriteError where they would, before they write.
    """
    target = settled(out.path)
    size = sum(piece.nbytes for piece in (*plan.pieces, *plan.sidecar))
    if shard_size is None:
        with writing(out.path):
            _check_file_early(target, out.guard, bool(plan.sidecar))
        beside = os.fspath(sidecar_path(target)) if plan.sidecar else None
        return Written((os.fspath(target),), beside, size)
    contents = _contents(plan, shard_size, source)
    with writing(out.path):
        check_replaced(target, _Earlier, out.guard, contents.made())
    return contents.written(target, plan, size)


def write_file(plan: Plan, out: Output) -> Written:
    """One .safetensors file, and its sidecar when the plan has one."""
    with writing(out.path):
        return _write_file(plan, out)


def _write_file(plan: Plan, out: Output) -> Written:
    target, kept = settled(out.path), 0
    beside = sidecar_path(target)
    _check_file_early(target, out.guard, bool(plan.sidecar))
    like, side_like = status(target), status(beside, target)
    side: Staged | None = None
    named = None
    with ExitStack() as stack:
        new = stack.enter_context(staged_file(target, like))
        if plan.sidecar:
            side = stack.enter_context(staged_file(beside, side_like))
            kept = write_safetensors(side.fd, plan.sidecar, _sidecar_metadata(target.name))
            inherit(side.fd, side_like)
            named = {"file": beside.name, "sha256": digest(side.path)}
        meta = marker(plan, out.writer, out.values, named)
        size = write_safetensors(new.fd, plan.pieces, meta, out.progress, out.threads)
        inherit(new.fd, like)
        lock = stack.enter_context(FolderLock(target.parent))
        lock.acquire()
        if lock.held:
            settle(target)
        stale = _check_file(target, out.guard, bool(plan.sidecar))
        notes = commit_pair(new, side, named["sha256"] if named else "", stale)
    sidecar = os.fspath(beside) if plan.sidecar else None
    return Written((os.fspath(target),), sidecar, size + kept, notes)


def _sidecar_metadata(name: str) -> dict[str, str]:
    return {"format": "pt", SIDECAR_KEY: name}


def shards(pieces: Sequence[Piece], limit: int) -> list[list[Piece]]:
    """Pieces in files of at most `limit` bytes each (a larger tensor gets its own)."""
    files: list[list[Piece]] = [[]]
    held = 0
    for piece in pieces:
        size = piece.nbytes
        if files[-1] and held + size > limit:
            files.append([])
            held = 0
        files[-1].append(piece)
        held += size
    return files


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


@dataclass(frozen=True)
class _Contents:
    """What a folder is made of: pieces by file, companions, and notes on these."""

    shards: Mapping[str, Sequence[Piece]]
    copied: Sequence[Path]
    notes: Sequence[str]

    def made(self) -> dict[str, Path | None]:
        """The names in the folder, with the files that have their content."""
        return {**dict.fromkeys((*self.shards, INDEX)), **{path.name: path for path in self.copied}}

    def written(self, target: Path, plan: Plan, size: int, late: Iterable[str] = ()) -> Written:
        """What is told of the folder; `late` are notes on its writing."""
        sidecar = os.fspath(target / _FOLDER_SIDECAR) if plan.sidecar else None
        files = tuple(os.fspath(target / name) for name in self.shards)
        beside = tuple(os.fspath(target / n) for n in self.made() if n not in self.shards)
        return Written(files, sidecar, size, (*self.notes, *late), beside)


def _contents(plan: Plan, shard_size: int, source: Path | None) -> _Contents:
    files = shards(plan.pieces, shard_size)
    copied, notes = companions(source) if source is not None else ([], [])
    return _Contents(dict(zip(_shard_names(len(files)), files, strict=True)), copied, notes)


class _Earlier:
    """What an entry of a target folder is, for a conversion into the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _copied(self) -> Mapping[str, str]:
        """Digests of the companions that an earlier conversion copied, by name."""
        about = json_of(self._folder / INDEX).get("metadata")
        copied = about.get(_COMPANIONS_KEY) if isinstance(about, dict) else None
        return copied if isinstance(copied, dict) else {}

    def judge(self, path: Path) -> Verdict:
        name = path.name
        if name == _FOLDER_SIDECAR:
            return "ours" if SIDECAR_KEY in metadata_of(path) else "clash"
        if name.startswith("model") and name.endswith(".safetensors"):
            return "ours" if KEY in metadata_of(path) else "clash"
        if name.startswith("model") and name.endswith(".index.json"):
            return "ours" if _is_own_index(path) else "clash"
        known = self._copied.get(name)
        return "ours" if known and known == file_digest(path) else "other"


def _is_own_index(path: Path) -> bool:
    weight_map = json_of(path).get("weight_map")
    if not isinstance(weight_map, dict):
        return False
    names = {str(name) for name in weight_map.values()}
    return all(KEY in metadata_of(path.with_name(Path(name).name)) for name in names)


def _write_new(
    path: Path, pieces: Sequence[Piece], metadata: Mapping[str, str], out: Output
) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        return write_safetensors(fd, pieces, metadata, out.progress, out.threads)
    finally:
        os.close(fd)


@paused()
def _indented(content: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON a line for each entry; json.dumps takes its slow way where it is asked to indent."""
    rows = []
    for name, entries in content.items():
        inner = json.dumps(entries, separators=(",\n    ", ": "))[1:-1]
        rows.append(f"  {json.dumps(name)}: {{\n    {inner}\n  }}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _write_index(
    folder: Path, named_files: Mapping[str, Sequence[Piece]], copied: Mapping[str, str]
) -> None:
    placed = {p.target: name for name, pieces in named_files.items() for p in pieces}
    size = sum(piece.nbytes for pieces in named_files.values() for piece in pieces)
    about: dict[str, Any] = {"total_size": size}
    if copied:
        about[_COMPANIONS_KEY] = dict(copied)
    path = folder / INDEX
    path.write_text(_indented({"metadata": about, "weight_map": dict(sorted(placed.items()))}))
    sync_file(path)


def _write_weights(
    plan: Plan, out: Output, folder: Path, named_files: Mapping[str, Sequence[Piece]]
) -> int:
    size, named = 0, None
    first, *_ = named_files
    if plan.sidecar:
        path = folder / _FOLDER_SIDECAR
        size += _write_new(path, plan.sidecar, _sidecar_metadata(first), out)
        named = {"file": path.name, "sha256": digest(path)}
    meta = marker(plan, out.writer, out.values, named)
    beyond: dict[str, str] = {}
    for name, pieces in named_files.items():
        try:
            size += _write_new(folder / name, pieces, meta, out)
        except OutOfRangeError as error:  # those of the other files are wanted too
            beyond |= error.tensors
        meta = part_marker(first)
    if beyond:
        raise OutOfRangeError(beyond)
    return size


def write_folder(plan: Plan, out: Output, shard_size: int, source: Path | None) -> Written:
    """A directory as mlx-lm reads it: shards, index, config and tokenizer files of `source`.

    It appears complete under its name, or the old one stays.
    """
    with writing(out.path):
        return _write_folder(plan, out, shard_size, source)


def _write_folder(plan: Plan, out: Output, shard_size: int, source: Path | None) -> Written:
    target = settled(out.path)
    contents = _contents(plan, shard_size, source)
    with replaced(target, _Earlier, out.guard, contents.made()) as (folder, late):
        size = _write_weights(plan, out, folder, contents.shards)
        copies = [copy_companion(path, folder) for path in contents.copied]
        for path in copies:
            sync_file(path)
        _write_index(folder, contents.shards, {path.name: file_digest(path) for path in copies})
    return contents.written(target, plan, size, late)
