"""Undoing a plan: the PyTorch state dict of a converted checkpoint, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.errors import RevertError
from torch2mlx.read.files import read_safetensors
from torch2mlx.types import ITEM_BYTES, Piece
from torch2mlx.weights.layout import parse
from torch2mlx.write.marker import check_sidecar


@dataclass(frozen=True)
class Reverted:
    """A state dict to be: pieces in torch's order, other entries, and what is not exact."""

    pieces: tuple[Piece, ...]
    values: Mapping[str, Any]
    inexact: tuple[str, ...]


def _layout_piece(
    key: str, recipe: list[Any], shape: tuple[int, ...], source: _core.Tensor
) -> Piece:
    layout, sizes = parse(recipe[2]), recipe[3]
    if layout.shape(sizes) != source.shape or layout.inverse.shape(sizes) != shape:
        raise RevertError(f"{key!r}: the recorded layout does not fit the stored tensor")
    view: Callable[[], _core.Tensor] = lambda: layout.inverse.view(source, sizes)  # noqa: E731
    return Piece(key, shape, source.dtype, (recipe[1],), str(layout.inverse), view)


def _joined(key: str, targets: list[str], parts: list[_core.Tensor]) -> Piece:
    """Parts of a split, joined along dimension 0 (a copy of one tensor at a time)."""
    rows = sum(part.shape[0] for part in parts)
    shape = (rows, *parts[0].shape[1:])

    def make() -> _core.Tensor:
        whole = np.concatenate([np.asarray(part) for part in parts])
        return _core.from_buffer(whole, parts[0].dtype)

    return Piece(key, shape, parts[0].dtype, tuple(targets), "join", make, True)


class _Undo:
    def __init__(
        self, tensors: Mapping[str, _core.Tensor], plan: Mapping[str, Any], path: Path
    ) -> None:
        self._tensors, self._plan, self._path = tensors, plan, path
        self._sidecar: dict[str, _core.Tensor] = {}
        if plan["sidecar"]:
            self._sidecar = read_safetensors(check_sidecar(path, plan["sidecar"]))[0]

    def _get(self, target: str) -> _core.Tensor:
        name = self._plan["ties"].get(target, target)
        if name not in self._tensors:
            raise RevertError(f"{self._path}: tensor {name!r} is missing")
        return self._tensors[name]

    def piece(self, key: str, dtype: str, shape: tuple[int, ...], recipe: list[Any]) -> Piece:
        kind = recipe[0]
        if kind == "s":
            if key not in self._sidecar:
                raise RevertError(f"{self._path}: the sidecar lacks {key!r}")
            source = self._sidecar[key]
            return Piece(key, source.shape, source.dtype, (key,), "copy", lambda: source)
        if kind == "c":
            return _joined(key, recipe[1], [self._get(target) for target in recipe[1]])
        source = self._get(recipe[1])
        if kind == "l":
            return _layout_piece(key, recipe, shape, source)
        return Piece(key, source.shape, source.dtype, (recipe[1],), "copy", lambda: source)


def undo(tensors: Mapping[str, _core.Tensor], plan: Mapping[str, Any], path: Path) -> Reverted:
    """The state dict that a plan was made from.

    Raises RevertError when a tensor or the sidecar is missing or does not fit.
    """
    undo_one, pieces, inexact = _Undo(tensors, plan, path), [], []
    try:
        for key, dtype, shape, recipe in plan["tensors"]:
            piece = undo_one.piece(key, dtype, tuple(shape), recipe)
            if piece.shape != tuple(shape) or dtype not in ITEM_BYTES:
                raise RevertError(f"{path}: {key!r} is {list(piece.shape)}, not {shape}")
            if piece.dtype != dtype:
                inexact.append(key)
            pieces.append(replace(piece, dtype=dtype))
    except RevertError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise RevertError(f"{path}: its plan is damaged: {error}") from error
    return Reverted(tuple(pieces), plan.get("values", {}), tuple(inexact))
