"""The CRC-32 of every storage in a zip archive of torch.save, compared when it is first read."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

from torch2mlx import _core
from torch2mlx.common.options import given
from torch2mlx.errors import CheckpointError

#: Bytes between two looks for Ctrl-C; so much of a file is in memory at a time.
_STEP = 64 << 20


class Checksums:
    """The storages of one file. Files from before torch 1.6 have no checksums."""

    def __init__(
        self, path: Path, mapping: _core.Mapping, rows: list[tuple[int, int, int, int, str]]
    ) -> None:
        """`rows`: (address, offset in the file, bytes, CRC-32, key), as `_core.read_torch` says."""
        self._path, self._mapping = path, mapping
        self._rows = {row[0]: row for row in rows}
        self._addresses = sorted(self._rows)
        self._good: set[int] = set()

    def check(self, key: str, tensor: _core.Tensor) -> None:
        """Raises CheckpointError when the storage that a tensor lies in is damaged."""
        at = bisect_right(self._addresses, tensor.address) - 1
        address = self._addresses[at] if at >= 0 else None
        if address is None or address in self._good:
            return
        _, start, length, expected, storage = self._rows[address]
        if tensor.address >= address + length:
            return
        found = 0
        for step in range(0, length, _STEP):
            size = min(_STEP, length - step)
            found = _core.crc32(self._mapping, start + step, size, found)
        if found != expected:
            raise CheckpointError(
                f"{self._path}: byte {start}: the checksum of storage {storage!r} is wrong, which "
                f"has the bytes of tensor {key!r}; the file is damaged: fetch it again, or read it "
                f"as it is with {given('verify', False)}"
            )
        self._good.add(address)
