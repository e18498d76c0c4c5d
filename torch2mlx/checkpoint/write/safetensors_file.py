"""One safetensors file from pieces of a plan, within a bounded window of memory."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from torch2mlx import _core
from torch2mlx.checkpoint.formats.schema import DIGESTS
from torch2mlx.common.collecting import paused
from torch2mlx.errors import OutOfRangeError
from torch2mlx.types import ITEM_BYTES, Piece, Progress

#: Tensors that have to be computed are held in memory together up to this many bytes.
WINDOW_BYTES = 128 << 20
#: Pieces that only borrow memory go to the core in batches, so that their views stay few.
BATCH = 4096
_NO_DIGEST = "0" * 32


def digest_of(data: memoryview) -> str:
    """What a file says of a computed tensor's bytes, so that a change of them is seen."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def aligned(pieces: Sequence[Piece]) -> list[Piece]:
    """Widest items first, so that every tensor of the file lies aligned."""
    return sorted(pieces, key=lambda piece: -ITEM_BYTES[piece.dtype])


def _batches(pieces: Sequence[Piece], sizes: Sequence[int]) -> Iterator[slice]:
    """Places of pieces that are written together; `sizes` are their bytes."""
    if not any(piece.deferred for piece in pieces):
        yield from (slice(i, i + BATCH) for i in range(0, len(pieces), BATCH))
        return
    first, held = 0, 0
    for i, piece in enumerate(pieces):
        made = sizes[i] if piece.deferred else 0
        if i > first and (held + made > WINDOW_BYTES or i - first == BATCH):
            yield slice(first, i)
            first, held = i, 0
        held += made
    if first < len(pieces):
        yield slice(first, len(pieces))


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

    Raises OSError when the system cannot write, OutOfRangeError, UnsupportedTensorError and
    whatever making a deferred tensor raises.
    """
    with paused():
        ordered = list(pieces) if keep_order else aligned(pieces)
        entries = [(piece.target, piece.dtype, piece.shape) for piece in ordered]
        told = [piece for piece in ordered if piece.digested]
        header = _header(entries, metadata, {piece.target: _NO_DIGEST for piece in told})
        sizes = [math.prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in entries]
    total = sum(sizes)
    _reserve(fd, len(header) + total)
    view = memoryview(header)
    while view:
        view = view[os.write(fd, view) :]
    done = 0
    beyond: dict[str, str] = {}
    for places in _batches(ordered, sizes):
        with paused():
            jobs = [(piece.load(), piece.dtype) for piece in ordered[places]]
        report = _reporter(progress, ordered[places], sizes[places], done, total)
        # flush: the disk starts on each span while the next is made, so the sync is short
        start, batch = len(header) + done, ordered[places]
        lost = _core.write(fd, start, jobs, threads=threads, flush=True, progress=report)
        beyond |= {batch[i].target: batch[i].dtype for i in lost}
        done += sum(sizes[places])
        jobs.clear()
    if beyond:
        raise OutOfRangeError(beyond)
    if told:
        digests = _digests(fd, len(header), ordered, sizes)
        os.pwrite(fd, _header(entries, metadata, digests), 0)
    os.fsync(fd)
    return len(header) + total


def _header(
    entries: list[tuple[str, str, tuple[int, ...]]],
    metadata: Mapping[str, str],
    digests: Mapping[str, str],
) -> bytes:
    """The header; its length does not depend on what the digests are."""
    if not digests:
        return _core.safetensors_header(entries, dict(metadata))
    dtypes = {name: dtype for name, dtype, _ in entries}
    told = json.dumps({name: [dtypes[name], value] for name, value in digests.items()})
    return _core.safetensors_header(entries, {**metadata, DIGESTS: told})


def _digests(fd: int, start: int, ordered: Sequence[Piece], sizes: Sequence[int]) -> dict[str, str]:
    """Digests of the pieces that ask for one, of the bytes that are in the file now."""
    found, at = {}, start
    end = start + sum(sizes)
    with mmap.mmap(fd, end, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
        for piece, size in zip(ordered, sizes, strict=True):
            if piece.digested:
                found[piece.target] = digest_of(view[at : at + size])
            at += size
    return found


def _reserve(fd: int, size: int) -> None:
    """Fails early on a full disk."""
    stats = os.fstatvfs(fd)
    free = stats.f_bavail * stats.f_frsize
    if stats.f_blocks and free < size:
        raise OSError(errno.ENOSPC, f"needs {size:,} bytes, the disk has {free:,} free")


def _reporter(
    progress: Progress | None, batch: list[Piece], sizes: list[int], before: int, total: int
) -> Callable[[int], None] | None:
    """The core's progress (bytes of this batch) as the caller's (bytes in all, tensor)."""
    if progress is None:
        return None
    ends = list(accumulate(sizes))

    def report(done: int) -> None:
        current = batch[min(bisect_right(ends, done), len(batch) - 1)]
        progress(before + done, total, current.target)

    return report
