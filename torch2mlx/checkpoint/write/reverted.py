"""A reverted state dict, out: as arrays, as torch tensors, as a file."""

from __future__ import annotations

import json
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.checkpoint.plan.undo import Reverted
from torch2mlx.checkpoint.source.converted import array
from torch2mlx.checkpoint.write.replacing import Guard, check_parent, nobodys, settled
from torch2mlx.checkpoint.write.safetensors_file import write_safetensors
from torch2mlx.checkpoint.write.transaction import (
    commit,
    inherit,
    put_file,
    staged_file,
    status,
    writing,
)
from torch2mlx.common.collecting import paused
from torch2mlx.common.lock import FolderLock
from torch2mlx.common.optional import need
from torch2mlx.errors import RevertError
from torch2mlx.types import Piece, Progress

#: How often a tied tensor may be repeated, on average, in a file that holds no ties.
MAX_GROWTH = 64
#: Types of items that numpy and torch share, in every version of both.
_SHARED = frozenset({"float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8"})


@paused()
def _once(state: Reverted, make: Callable[[Piece], Any]) -> dict[str, Any]:
    """Pieces made one by one; those that are one tensor are made once."""
    known: dict[tuple[Any, ...], Any] = {}
    made = {}
    for piece in state.pieces:
        if piece.identity not in known:
            known[piece.identity] = make(piece)
        made[piece.target] = known[piece.identity]
    return made


def _array(piece: Piece) -> Any:
    return array(piece.load().dense(piece.dtype)).reshape(piece.shape)


def as_arrays(state: Reverted) -> dict[str, Any]:
    """numpy arrays that own their memory (bfloat16 and float8 need ml_dtypes)."""
    return {**_once(state, _array), **state.values}


def _torch_tensor(torch: Any, piece: Piece) -> Any:
    if 0 in piece.shape:
        return torch.empty(piece.shape, dtype=getattr(torch, piece.dtype))
    found = np.array(piece.load().dense(piece.dtype))
    if piece.dtype in _SHARED:
        return torch.from_numpy(found.reshape(piece.shape))
    raw = torch.from_numpy(found.reshape(-1).view(np.uint8))
    return raw.view(getattr(torch, piece.dtype)).reshape(piece.shape)


def as_torch(state: Reverted) -> dict[str, Any]:
    """torch tensors that own their memory."""
    need("reverting to tensors of torch", "torch")
    import torch

    made = _once(state, lambda piece: _torch_tensor(torch, piece))
    return OrderedDict([*made.items(), *state.values.items()])


def _check_size(state: Reverted, out: Path) -> None:
    size = sum(piece.nbytes for piece in state.pieces)
    if size > MAX_GROWTH * state.nbytes + (1 << 20):
        raise RevertError(
            f"{out}: would have {size:,} bytes of tensors that are tied, from {state.nbytes:,}; "
            "write a .pt file, which holds each once"
        )


def check_reverted(state: Reverted, out: Path, guard: Guard) -> str:
    """The path that would be written. Raises what `write_reverted` would, before it writes."""
    if out.suffix == ".safetensors":
        _check_size(state, out)
    else:
        need(f"writing {out.name} as torch.save does (a .safetensors file needs nothing)", "torch")
    with writing(out):
        target = settled(out)
        check_parent(target)
        guard.check_file(target, nobodys)
    return os.fspath(out)


def write_reverted(state: Reverted, out: Path, progress: Progress | None, guard: Guard) -> str:
    """Writes a .safetensors file natively, or anything else by torch.save; returns its path.

    Entries that are no tensors stand in the metadata of a safetensors file, as JSON. Raises
    RevertError where a safetensors file, which has no tied tensors, would be far larger than what
    it is made from.
    """
    check_reverted(state, out, guard)
    with writing(out):
        notes = _write(state, out, progress, guard)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=4)
    return os.fspath(out)


def _write(state: Reverted, out: Path, progress: Progress | None, guard: Guard) -> tuple[str, ...]:
    target = settled(out)
    like = status(target)
    with staged_file(target, like) as staged:
        _write_state(state, staged.fd, target.suffix, progress)
        inherit(staged.fd, like)
        with FolderLock(target.parent) as lock:
            lock.acquire()
            guard.check_file(target, nobodys)
            return commit(staged, put_file, ())


def _write_state(state: Reverted, fd: int, suffix: str, progress: Progress | None) -> None:
    if suffix == ".safetensors":
        metadata = {"format": "pt"}
        if state.values:
            metadata["values"] = json.dumps(dict(state.values))
        write_safetensors(fd, state.pieces, metadata, progress, keep_order=True)
        return
    import torch

    with os.fdopen(os.dup(fd), "wb") as file:
        torch.save(as_torch(state), file)
    os.fsync(fd)
