"""Checkpoint files: safetensors, torch.save (zip and legacy). The bytes are parsed in C."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.source.checksums import Checksums
from torch2mlx.common.collecting import paused
from torch2mlx.errors import CheckpointError, UnsupportedTensorError

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


@paused()
def scan_safetensors(
    path: Path,
) -> tuple[dict[str, _core.Tensor | _core.Foreign], Mapping[str, str]]:
    """Tensors in file order, borrowed from the mapped file, and the header's metadata.

    A tensor that has no form here (dtype F8_E8M0, 17 dimensions) is a `Foreign`. Raises
    CheckpointError for files that safetensors refuses too.
    """
    try:
        tensors, metadata = _core.read_safetensors(map_file(path))
    except _core.CoreError as error:
        raise describe_failure(path, error) from error
    return dict(tensors), metadata


def read_safetensors(path: Path) -> tuple[dict[str, _core.Tensor], Mapping[str, str]]:
    """The same, where every tensor is needed: raises UnsupportedTensorError for a foreign one."""
    tensors, metadata = scan_safetensors(path)
    found: dict[str, _core.Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, _core.Foreign):
            raise unsupported(os.fspath(path), name, tensor)
        found[name] = tensor
    return found, metadata


def unsupported(origin: str, key: str, tensor: _core.Foreign) -> UnsupportedTensorError:
    """That a tensor of a file cannot be read, and what to do about it."""
    if tensor.shape is not None and len(tensor.shape) > _core.MAX_RANK:
        advice = f"reshape it to at most {_core.MAX_RANK} dimensions before saving"
    elif tensor.dtype == "C128":
        advice = "cast it to complex64 before saving"
    elif tensor.dtype is not None and tensor.name.startswith("dtype"):
        advice = "dequantize or cast it in PyTorch before saving, or leave it out"
    elif tensor.name.startswith("complex"):
        advice = "cast it to complex64 before saving"
    elif tensor.name == "meta":
        advice = "load the model's weights before saving it"
    else:
        advice = "turn it into a plain tensor (to_dense, dequantize) before saving"
    where = f" (byte {tensor.offset})" if tensor.offset else ""
    return UnsupportedTensorError(
        f"{origin}: tensor {key!r}: {tensor.name} has no exact MLX form{where}; {advice}"
    )


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


def is_safetensors(path: Path) -> bool:
    """Told by the extension; for other extensions by the first nine bytes."""
    if path.suffix == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return len(head) == 9 and head[8:] == b"{" and not head.startswith(b"PK\x03\x04")
