"""The folder of an adapter, of either library: one file of tensors and its configuration."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.adapters.settings import CONFIG
from torch2mlx.checkpoint.write.folder import Verdict, check_replaced, replaced, sync_file
from torch2mlx.checkpoint.write.output import Written
from torch2mlx.checkpoint.write.replacing import Guard, file_digest, metadata_of, settled
from torch2mlx.checkpoint.write.safetensors_file import write_safetensors
from torch2mlx.checkpoint.write.transaction import writing
from torch2mlx.types import Piece, Progress

#: Names of the file of tensors.
MLX_FILE, PEFT_FILE = "adapters.safetensors", "adapter_model.safetensors"
#: In its metadata: the digest of the configuration that was written with it.
MARKER = "torch2mlx_adapter"


class _Earlier:
    """What an entry of the folder is: what was trained or edited since is the user's."""

    def __init__(self, folder: Path) -> None:
        found = [metadata_of(folder / name).get(MARKER) for name in (MLX_FILE, PEFT_FILE)]
        self._digests = {digest for digest in found if digest}

    def judge(self, path: Path) -> Verdict:
        if path.name == CONFIG:
            return "ours" if file_digest(path) in self._digests else "clash"
        if path.name in (MLX_FILE, PEFT_FILE, "adapter_model.bin"):
            return "ours" if MARKER in metadata_of(path) else "clash"
        return "other"


@dataclass(frozen=True)
class Contents:
    """What a folder of an adapter is made of; `file` is MLX_FILE or PEFT_FILE."""

    file: str
    pieces: Sequence[Piece]
    config: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The configuration as it is written."""
        return json.dumps(dict(self.config), indent=2) + "\n"


def write_adapter(
    out: Path,
    contents: Contents,
    guard: Guard,
    progress: Progress | None = None,
    threads: int = 0,
    dry_run: bool = False,
) -> Written:
    """Writes the folder of an adapter, or says what would be written.

    Raises WriteError, and leaves what is there, where something of the user's would be replaced.
    """
    target, made = settled(out), dict.fromkeys((contents.file, CONFIG))
    size = sum(piece.nbytes for piece in contents.pieces)
    with writing(target):
        if dry_run:
            check_replaced(target, _Earlier, guard, made)
            return _written(target, contents, size, ())
        with replaced(target, _Earlier, guard, made) as (folder, notes):
            size = _fill(folder, contents, progress, threads)
    return _written(target, contents, size, notes)


def _written(target: Path, contents: Contents, size: int, notes: Sequence[str]) -> Written:
    files = (os.fspath(target / contents.file),)
    return Written(files, None, size, tuple(notes), (os.fspath(target / CONFIG),))


def _fill(folder: Path, contents: Contents, progress: Progress | None, threads: int) -> int:
    text = contents.text
    form = "mlx" if contents.file == MLX_FILE else "pt"
    marker = {"format": form, MARKER: hashlib.sha256(text.encode()).hexdigest()}
    path = folder / contents.file
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        size = write_safetensors(fd, contents.pieces, marker, progress, threads)
    finally:
        os.close(fd)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    sync_file(folder / CONFIG)
    return size
