"""One safetensors file from pieces of a plan, within a bounded window of memory."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from torch2mlx import _core
from torch2mlx.types import ITEM_BYTES, Piece, Progress

#: Tensors that have to be computed are held in memory together up to this many bytes.
WINDOW_BYTES = 128 << 20
#: Pieces that only borrow memory go to the core in batches, so that their views stay few.
BATCH = 4096


def aligned(pieces: Sequence[Piece]) -> list[Piece]:
    """Widest items first, so that every tensor of the file lies aligned."""
    return sorted(pieces, key=lambda piece: -ITEM_BYTES[piece.dtype])


def _batches(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    held = 0
    for piece in pieces:
        held += piece.nbytes if piece.deferred else 0
        if batch and (held > WINDOW_BYTES or len(batch) == BATCH):
            yield batch
            batch, held = [], piece.nbytes if piece.deferred else 0
        batch.append(piece)
    if batch:
        yield batch


def write_safetensors(
    fd: int,
    pieces: Sequence[Piece],
    metadata: Mapping[str, str],
    progress: Progress | None = None,
    threads: int = 0,
    keep_order: bool = False,
) -> int:
    """Writes header and tensors to an open, empty file and syncs it; returns its size.

    Tensors lie widest items first, so that each is aligned, unless `keep_order`.

    Raises OSError when the system cannot write, UnsupportedTensorError and whatever making a
    deferred tensor raises.
    """
    ordered = list(pieces) if keep_order else aligned(pieces)
    entries = [(piece.target, piece.dtype, piece.shape) for piece in ordered]
    header = _core.safetensors_header(entries, dict(metadata))
    total = sum(piece.nbytes for piece in ordered)
    _reserve(fd, len(header) + total)
    view = memoryview(header)
    while view:
        view = view[os.write(fd, view) :]
    done = 0
    for batch in _batches(ordered):
        jobs = [(piece.load(), piece.dtype) for piece in batch]
        report = _reporter(progress, batch, done, total)
        # flush: the disk starts on each span while the next is made, so the sync is short
        _core.write(fd, len(header) + done, jobs, threads=threads, flush=True, progress=report)
        done += sum(piece.nbytes for piece in batch)
        jobs.clear()
    os.fsync(fd)
    return len(header) + total


def _reserve(fd: int, size: int) -> None:
    """Fails early on a full disk."""
    stats = os.fstatvfs(fd)
    free = stats.f_bavail * stats.f_frsize
    if stats.f_blocks and free < size:
        raise OSError(errno.ENOSPC, f"needs {size:,} bytes, the disk has {free:,} free")


def _reporter(
    progress: Progress | None, batch: list[Piece], before: int, total: int
) -> Callable[[int], None] | None:
    """The core's progress (bytes of this batch) as the caller's (bytes in all, tensor)."""
    if progress is None:
        return None
    ends = list(accumulate(piece.nbytes for piece in batch))

    def report(done: int) -> None:
        current = batch[min(bisect_right(ends, done), len(batch) - 1)]
        progress(before + done, total, current.target)

    return report
