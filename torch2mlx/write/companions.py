"""Files of a checkpoint folder that MLX programs need beside the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch2mlx.errors import CheckpointError

_PATTERNS = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.md")


def companions(source: Path) -> tuple[list[Path], list[str]]:
    """Config, tokenizer and the like; not the index of the torch weights. And notes.

    A symbolic link is followed to a file of the folder itself, or of the same repository in the
    cache of the Hugging Face hub, whose snapshots are made of links into its blobs. Any other may
    lead to what was never meant to be published: it is left out, with a note.
    """
    real = source.resolve()
    homes = {real}
    if real.parent.name == "snapshots":
        homes.add(real.parent.parent / "blobs")
    found, notes = [], []
    for path in sorted(p for pattern in _PATTERNS for p in source.glob(pattern)):
        if not path.is_file() or path.name.endswith(".index.json"):
            continue
        if path.is_symlink() and path.resolve().parent not in homes:
            notes.append(f"{path.name} is a symbolic link that leads out of its folder: not copied")
        else:
            found.append(path)
    return found, notes


def copy_companion(path: Path, folder: Path) -> Path:
    """Copies content, not mode. Raises CheckpointError when it cannot be read."""
    target = folder / path.name
    try:
        with path.open("rb") as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return target
