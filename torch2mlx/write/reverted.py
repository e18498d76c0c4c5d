"""A reverted state dict, out: as arrays, as torch tensors, as a file."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.load import array
from torch2mlx.types import Piece, Progress
from torch2mlx.weights.undo import Reverted
from torch2mlx.write.safetensors_file import write_safetensors
from torch2mlx.write.transaction import sync_folder, temporary_file


def as_arrays(state: Reverted) -> dict[str, Any]:
    """numpy arrays that own their memory (bfloat16 and float8 need ml_dtypes)."""
    made = {p.target: array(p.load().dense(p.dtype)).reshape(p.shape) for p in state.pieces}
    return {**made, **state.values}


def _torch_tensor(torch: Any, piece: Piece) -> Any:
    if 0 in piece.shape:
        return torch.empty(piece.shape, dtype=getattr(torch, piece.dtype))
    raw = np.asarray(piece.load().dense(piece.dtype)).reshape(-1).view(np.uint8).copy()
    dtype = getattr(torch, piece.dtype)
    return torch.from_numpy(raw).view(dtype).reshape(piece.shape)


def as_torch(state: Reverted) -> dict[str, Any]:
    """torch tensors that own their memory."""
    import torch

    made = ((piece.target, _torch_tensor(torch, piece)) for piece in state.pieces)
    return OrderedDict([*made, *state.values.items()])


def write_reverted(state: Reverted, out: Path, progress: Progress | None) -> str:
    """Writes a .safetensors file natively, or anything else by torch.save; returns its path.

    Entries that are no tensors stand in the metadata of a safetensors file, as JSON.
    """
    with temporary_file(out) as (fd, temporary):
        if out.suffix == ".safetensors":
            metadata = {"format": "pt"}
            if state.values:
                metadata["values"] = json.dumps(dict(state.values))
            write_safetensors(fd, state.pieces, metadata, progress, keep_order=True)
        else:
            import torch

            with os.fdopen(os.dup(fd), "wb") as file:
                torch.save(as_torch(state), file)
            os.fsync(fd)
        os.rename(temporary, out)
        sync_folder(out.parent)
    return os.fspath(out)
