"""Files of torch.save, as far as they hold arrays, plain values and containers of them.

Two forms exist: a zip archive with `data.pkl` and a member for each storage, and, from before torch
1.6, pickles in a row with the storages behind them. What else a pickle asks for is refused by name:
nothing is imported, and nothing is called but the functions of `_made`.
"""

from __future__ import annotations

import functools
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import mlx.core as mx
import numpy as np

#: Of the storages' classes and of torch's types: MLX's name, and numpy's type of that size.
_TYPES: dict[str, tuple[str, str]] = {
    **{name: ("float32", "u4") for name in ("FloatStorage", "float32")},
    **{name: ("float64", "u8") for name in ("DoubleStorage", "float64")},
    **{name: ("float16", "u2") for name in ("HalfStorage", "float16")},
    **{name: ("bfloat16", "u2") for name in ("BFloat16Storage", "bfloat16")},
    **{name: ("complex64", "u8") for name in ("ComplexFloatStorage", "complex64")},
    **{name: ("int64", "u8") for name in ("LongStorage", "int64")},
    **{name: ("int32", "u4") for name in ("IntStorage", "int32")},
    **{name: ("int16", "u2") for name in ("ShortStorage", "int16")},
    **{name: ("int8", "u1") for name in ("CharStorage", "int8")},
    **{name: ("uint8", "u1") for name in ("ByteStorage", "uint8")},
    **{name: ("bool_", "u1") for name in ("BoolStorage", "bool")},
    **{name: ("uint16", "u2") for name in ("uint16",)},
    **{name: ("uint32", "u4") for name in ("uint32",)},
    **{name: ("uint64", "u8") for name in ("uint64",)},
}
#: The first numbers of a file from before torch 1.6.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True)
class _Storage:
    """The bytes of a storage, none where only the file's order is read, and their type."""

    kind: str
    data: bytes | None


def _tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> Any:
    """A view of a storage. Raises ValueError where it leaves the storage."""
    if storage.data is None:
        return None
    name, carrier = _TYPES[storage.kind]
    flat = np.frombuffer(storage.data, f"<{carrier}")
    counts, steps = [int(n) for n in shape], [int(n) for n in strides]
    last = offset + sum((n - 1) * step for n, step in zip(counts, steps, strict=True))
    if 0 in counts:
        with mx.stream(mx.cpu):  # no other device has float64
            return mx.zeros(counts, getattr(mx, name))
    if min([offset, *counts, *steps]) < 0 or last >= flat.size:
        raise ValueError(f"a tensor of shape {tuple(counts)} leaves its storage: a damaged file")
    size = flat.itemsize
    view = np.lib.stride_tricks.as_strided(flat[offset:], counts, [n * size for n in steps])
    held = np.ascontiguousarray(view).reshape(counts)
    if name == "bool_":
        return mx.array(held != 0)
    if name == "complex64":
        return mx.array(held.view(np.complex64))
    dtype = getattr(mx, name)
    with mx.stream(mx.cpu):
        return mx.array(held).view(dtype) if counts else mx.array(held[None]).view(dtype)[0]


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


#: What a pickle may call. Each file gets functions of its own, so that a pickle that writes to one
#: changes no other.
_MADE: dict[str, Callable[..., Any]] = {
    **{f"torch._utils.{n}": _tensor for n in ("_rebuild_tensor", "_rebuild_tensor_v2")},
    **{f"torch._utils.{n}": _parameter for n in ("_rebuild_parameter",)},
    "torch.Size": tuple,
    "torch.device": lambda *name: ":".join(map(str, name)),
    "_codecs.encode": _bytes,
    **{f"{n}.set": set for n in ("builtins", "__builtin__")},
    **{f"{n}.complex": complex for n in ("builtins", "__builtin__")},
    **{f"{n}.bytearray": bytearray for n in ("builtins", "__builtin__")},
}
#: numpy's own make its arrays and their types.
_OF_NUMPY = {("numpy", "ndarray"), ("numpy", "dtype")}
_OF_NUMPY |= {
    (f"numpy.{core}.multiarray", name)
    for core in ("core", "_core")
    for name in ("_reconstruct", "scalar")
}


class _Unpickler(pickle.Unpickler):
    """Makes data alone; `stored` gives the bytes of a storage by its key."""

    def __init__(self, file: BinaryIO, stored: Callable[[str, str, int], bytes | None]) -> None:
        super().__init__(file)
        self._stored = stored

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if module in ("torch", "torch.storage") and name in _TYPES:
            return name if name.endswith("Storage") else getattr(mx, _TYPES[name][0])
        if full in _MADE:
            return functools.partial(_MADE[full])
        if full == "collections.OrderedDict":
            return OrderedDict
        if (module, name) in _OF_NUMPY:
            return super().find_class(module, name)
        raise ValueError(
            f"the file asks for {full}: only arrays, plain values and containers of them are read; "
            "a state_dict() is such a file, a whole module is not"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, key, count = pid[1], str(pid[2]), int(pid[4])
        if pid[0] != "storage" or not isinstance(kind, str):
            raise ValueError(f"a storage of {kind} is not read")
        return _Storage(kind, self._stored(kind, key, count))


def _zipped(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        start = next((n for n in names if n.endswith("data.pkl")), None)
        if start is None:
            raise ValueError("an archive without data.pkl: none of torch.save")
        root = start.removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("written on a machine with the other order of bytes")

        @functools.cache
        def stored(kind: str, key: str, count: int) -> bytes:
            return archive.read(f"{root}data/{key}")

        return _Unpickler(io.BytesIO(archive.read(start)), stored).load()


def _nothing(kind: str, key: str, count: int) -> None:
    raise ValueError("a storage before the file's value: a damaged file")


def _in_a_row(file: BinaryIO) -> Any:
    """The older form: magic number, version, system, value, keys, then each storage's bytes."""
    if _Unpickler(file, _nothing).load() != _MAGIC:
        raise ValueError("a pickle that torch.save did not write")
    version, system = (_Unpickler(file, _nothing).load() for _ in range(2))
    if version != _PROTOCOL or not system["little_endian"]:
        raise ValueError("of another version, or of a machine with the other order of bytes")
    start, kinds = file.tell(), {}

    def noted(kind: str, key: str, count: int) -> None:
        kinds[key] = np.dtype(_TYPES[kind][1]).itemsize

    _Unpickler(file, noted).load()
    held = {}
    for key in _Unpickler(file, _nothing).load():
        (count,) = struct.unpack("<q", file.read(8))
        held[str(key)] = file.read(count * kinds[str(key)])
        if len(held[str(key)]) != count * kinds[str(key)]:
            raise EOFError("it ends within a storage")
    file.seek(start)
    return _Unpickler(file, lambda kind, key, count: held[key]).load()


def read(path: Any) -> Any:
    """What torch.save wrote: tensors as arrays of their type, numpy's arrays as they are.

    Raises ValueError for what is no array, plain value or container of them, and for damaged files.
    """
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                return _zipped(file)
            file.seek(0)
            return _in_a_row(file)
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, struct.error, KeyError) as error:
        raise ValueError(f"{path}: a damaged file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


__all__ = ["read"]
