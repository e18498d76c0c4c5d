"""Files of safetensors, parsed in C, and why a tensor of a file has no form here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch2mlx import _core
from torch2mlx.common.collecting import paused
from torch2mlx.common.torch_file import describe_failure, map_file
from torch2mlx.errors import CheckpointError, UnsupportedTensorError


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
