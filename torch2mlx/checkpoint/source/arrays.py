"""Trained weights in every form that MLX programs keep them in, as borrowed tensors by name."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.checkpoint.source.directory import checkpoint_files
from torch2mlx.checkpoint.source.files import read_safetensors
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.checkpoint.source.tensors import borrow, is_array, numpy_name
from torch2mlx.errors import CheckpointError, RevertError, UnsupportedTensorError

Tensors = dict[str, _core.Tensor]


def _is_mlx(value: Any) -> bool:
    core = sys.modules.get("mlx.core")
    return core is not None and isinstance(value, core.array)


def borrowed(array: Any) -> _core.Tensor:
    """An mx.array's memory, without a copy where the CPU reaches it."""
    core = sys.modules["mlx.core"]
    if array.dtype == core.bfloat16:
        return _core.from_buffer(np.asarray(array.view(core.uint16)), "bfloat16")
    plain = np.asarray(array)
    return _core.from_buffer(plain, numpy_name(plain.dtype)[0] or plain.dtype.name)


def _one(name: str, value: Any, origin: str) -> _core.Tensor:
    if _is_mlx(value):
        return borrowed(value)
    if not is_array(value):
        raise RevertError(f"{origin}: {name!r} is a {type(value).__name__}, not an array")
    return borrow(name, value).load()


def _leaves(value: Any, prefix: str, found: dict[str, Any]) -> None:
    """Leaves of dicts, lists and tuples under dotted names."""
    waiting = [(prefix, value)]
    while waiting:
        name, current = waiting.pop()
        if isinstance(current, Mapping):
            items: Any = current.items()
        elif isinstance(current, (list, tuple)):
            items = enumerate(current)
        else:
            found[name] = current
            continue
        waiting += [(f"{name}.{key}" if name else str(key), v) for key, v in items]


def _from_tree(source: Any, origin: str) -> Tensors:
    if isinstance(source, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in source
    ):
        source = dict(source)  # what mlx.utils.tree_flatten gives
    leaves: dict[str, Any] = {}
    _leaves(source, "", leaves)
    return {name: _one(name, value, origin) for name, value in leaves.items()}


def _entry(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> _core.Tensor:
    """One .npy of an archive; its header is believed only as far as the archive goes."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"version {version} of .npy")
        shape, columns, dtype = read(file)
        data = file.read(member.file_size)
    name = member.filename.removesuffix(".npy")
    if dtype.str == "|V2":  # how MLX writes bfloat16
        plain = np.frombuffer(data, np.uint16)
    elif dtype.hasobject or dtype.kind not in "biufc":
        raise UnsupportedTensorError(f"{path}: {name!r} has dtype {dtype}, which no weight has")
    else:
        plain = np.frombuffer(data, dtype)
    plain = plain.reshape(shape, order="F" if columns else "C")
    if dtype.str == "|V2":
        return _core.from_buffer(plain, "bfloat16")
    return borrow(name, plain).load()


def _from_npz(path: Path) -> Tensors:
    """An archive as mx.savez and numpy.savez write it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = path.stat().st_size
            if sum(m.file_size for m in members) > max(64 * size, 1 << 20):
                raise CheckpointError(f"{path}: claims to unpack to more than 64 times its size")
            return {m.filename.removesuffix(".npy"): _entry(archive, m, path) for m in members}
    except (
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as e:
        if isinstance(e, (CheckpointError, UnsupportedTensorError)):
            raise
        raise CheckpointError(f"{path}: cannot be read as .npz: {e}") from e


def _from_path(path: Path) -> Tensors:
    if path.is_dir():
        files = checkpoint_files(path)[0]
    elif path.suffix == ".npz":
        return _from_npz(path)
    else:
        files = [path]
    found: Tensors = {}
    for file in files:
        if file.suffix != ".safetensors":
            raise CheckpointError(f"{file}: MLX keeps weights in .safetensors and .npz files")
        tensors = read_safetensors(file)[0]
        twice = tensors.keys() & found.keys()
        if twice:
            raise CheckpointError(f"{file}: has {min(twice)!r}, which another shard has too")
        found.update(tensors)
    return found


def trained_tensors(source: Any) -> tuple[Tensors, str]:
    """(tensors by MLX name, what to call the source in messages).

    `source`: a .safetensors or .npz file, a folder of shards, an mlx.nn.Module, its parameters
    as a tree, as a flat dict or as pairs; of mx or numpy arrays. Raises CheckpointError for files
    that cannot be read, RevertError for anything that holds no arrays.
    """
    if isinstance(source, (str, os.PathLike)):
        path = checked(source, "source")
        return _from_path(path), os.fspath(path)
    layers = sys.modules.get("mlx.nn")
    if layers is not None and isinstance(source, layers.Module):
        return _from_tree(source.parameters(), type(source).__name__), type(source).__name__
    if isinstance(source, (Mapping, list, tuple)) and source:
        return _from_tree(source, "the weights"), "the weights"
    raise RevertError(
        f"an object of {type(source).__name__} holds no trained weights: pass a file, a folder, an "
        "mlx.nn.Module or its parameters"
    )
