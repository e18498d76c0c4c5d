"""A converted file and its sidecar, committed together: one whole pair at every moment.

Two files cannot be renamed in one step, so one rename decides: that of the converted file, whose
marker says which sidecar is its own, by digest. Before it the new sidecar lies under a name made
of its digest, where `check_sidecar` looks too; after it, it takes its place. A process that dies
in between leaves a pair that can be read, and the next one moves the sidecar on.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from torch2mlx.checkpoint.formats.marker import PENDING, pending_sidecar
from torch2mlx.checkpoint.write.replacing import is_sidecar_of, sidecar_digest
from torch2mlx.checkpoint.write.transaction import (
    Staged,
    commit,
    left_behind,
    put_file,
    remove,
    sweep,
    sync_folder,
)


def sidecar_path(target: Path) -> Path:
    """Where the sidecar of a converted file lies."""
    return target.with_name(f"{target.stem}.torch.safetensors")


def settle(target: Path) -> None:
    """Ends what killed writers of a pair have begun. To be called under the folder's lock."""
    beside = sidecar_path(target)
    sweep(beside)
    for path in left_behind(beside, r"\w+" + re.escape(PENDING)):
        with suppress(OSError):
            if path != pending_sidecar(beside, sidecar_digest(target)):
                remove(path)
            elif not os.path.lexists(beside) or is_sidecar_of(beside, target.name):
                os.rename(path, beside)


def commit_pair(new: Staged, side: Staged | None, sha256: str, stale: bool) -> tuple[str, ...]:
    """Puts a file in its place, and its sidecar `side` with that digest.

    `stale`: whether the sidecar of an earlier conversion is there, which is to go when there is
    no new one. To be called under the folder's lock. Returns notes; raises as `commit` does.
    """
    beside = sidecar_path(new.target)
    if side is None:
        return commit(new, put_file, [partial(remove, beside)] if stale else [])
    pending = pending_sidecar(beside, sha256)
    try:
        os.rename(side.path, pending)
        sync_folder(beside.parent)
        return commit(new, put_file, [partial(_move_on, pending, beside)])
    finally:
        if not new.is_in_place() and pending != pending_sidecar(beside, sidecar_digest(new.target)):
            with suppress(OSError):
                remove(pending)


def _move_on(pending: Path, beside: Path) -> None:
    if os.path.lexists(pending):
        os.rename(pending, beside)
