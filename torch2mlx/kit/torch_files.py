"""Files of torch.save, as far as they hold arrays, plain values and containers of them.

The C core parses them, in both forms that torch has written: nothing is imported or called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx import _core
from torch2mlx.common.checksums import Checksums
from torch2mlx.common.resolve import problem, resolve
from torch2mlx.common.torch_file import read_torch

#: By torch's names of types: MLX's name, and numpy's type of items of that size.
_TYPES = {torch: (mlx, f"u{size}") for torch, size, _, mlx, _ in _core.DTYPES if mlx}

#: No longer way to a value is written out.
_LONG = 500


def _array(tensor: _core.Tensor, place: str) -> Any:
    """The tensor as an array of MLX, or of numpy where it was one."""
    held = np.ascontiguousarray(tensor).reshape(tensor.shape)
    if tensor.numpy and tensor.dtype in np.sctypeDict:
        return held.astype(tensor.dtype)[()]
    if tensor.dtype not in _TYPES:
        raise ValueError(f"{place}: {tensor.dtype} has no form in MLX")
    name, carrier = _TYPES[tensor.dtype]
    with mx.stream(mx.cpu):  # no other device has float64
        if name == "bool_":
            return mx.array(held != 0)
        if name == "complex64":
            return mx.array(held)
        bits = held.reshape(held.shape or (1,)).view(carrier)
        return mx.array(bits).view(getattr(mx, name)).reshape(held.shape)


class _Values:
    """Turns what the core found in a file into values; what is shared there is shared here."""

    def __init__(self, checksums: Checksums) -> None:
        self._checksums = checksums
        #: By the id of what the core made, which `value` keeps alive.
        self._made: dict[int, Any] = {}

    def value(self, found: Any, place: str) -> Any:
        """`place` says where in the file it is, for errors."""
        if isinstance(found, (_core.Tensor, _core.Unresolved, list, tuple, dict)):
            if id(found) not in self._made:
                self._made[id(found)] = self._new(found, place)
            return self._made[id(found)]
        if isinstance(found, _core.Foreign):
            raise ValueError(
                f"{place} is {found.name}: only arrays, plain values and containers of them are "
                "read; a state_dict() is such a value, a whole module is not"
            )
        return found

    def _new(self, found: Any, place: str) -> Any:
        if isinstance(found, dict):
            return {
                self.value(key, f"a key of {place}"): self.value(item, _within(place, key))
                for key, item in found.items()
            }
        if isinstance(found, (list, tuple)):
            return type(found)(self.value(x, _within(place, i)) for i, x in enumerate(found))
        raw = found.tensor if isinstance(found, _core.Unresolved) else found
        self._checksums.check(place, raw)
        if found is raw:
            return _array(raw, place)
        if (why := problem(found)) is not None:
            raise ValueError(f"{place} {why}")
        return _array(resolve(found), place)


def _within(place: str, key: Any) -> str:
    return f"{place}[{key!r}]" if len(place) < _LONG else place


def read(path: Any) -> Any:
    """What torch.save wrote: tensors as arrays of their type, numpy's arrays and scalars as they
    are; a torch.Size is a tuple, and every kind of dict a plain one.

    Raises ValueError for what is no array, plain value or container of them, and for damaged
    files, and MemoryError for tensors that do not fit.
    """
    tree, checksums = read_torch(Path(path))
    return _Values(checksums).value(tree, f"{path}: what it holds")


__all__ = ["read"]
