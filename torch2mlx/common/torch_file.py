"""Files that the C core maps and parses, and what it finds in those of torch.save."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch2mlx import _core
from torch2mlx.common.checksums import Checksums
from torch2mlx.errors import CheckpointError

_ADVICE = {
    "PK_CALL": "only data is read: save the model's state_dict() instead of the model",
    "PT_META": "load the model's weights before saving it",
    "ZIP_CRC": "the file is damaged: fetch it again",
    "ZIP_COMPRESSED": "torch.load reads it: save it again with torch.save",
    "LEGACY_MAGIC": "load it with what wrote it, and torch.save its weights by name",
    "PT_BYTE_ORDER": "torch.load reads it: save it again with torch.save",
    "TRUNCATED": "the file is incomplete: fetch it again",
    "ST_HEADER_LENGTH": "not a safetensors file, or an incomplete one: fetch it again",
    "ST_HEADER_LIMIT": "not a safetensors file: it begins with the length of its header",
}


def describe_failure(path: Path, error: _core.CoreError) -> CheckpointError:
    """A failure of a C reader as an error that names file, place, reason and way out."""
    status, message, offset, name = error.args
    where = f" ({name})" if name else ""
    advice = f"; {_ADVICE[status]}" if status in _ADVICE else ""
    return CheckpointError(f"{path}: byte {offset}: {message}{where}{advice}")


def map_file(path: Path) -> _core.Mapping:
    """The file mapped into memory. Raises CheckpointError when it cannot be opened."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
        return _core.Mapping(os.fspath(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_torch(path: Path) -> tuple[Any, Checksums]:
    """What torch.save wrote, and the checksums of its storages.

    Dicts, lists, numbers, borrowed tensors, and opaque values for all else: nothing is executed.
    """
    mapping = map_file(path)
    try:
        tree, rows = _core.read_torch(mapping)
    except _core.CoreError as error:
        raise describe_failure(path, error) from error
    return tree, Checksums(path, mapping, rows)
