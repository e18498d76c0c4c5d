"""Checkpoint directories: one file, or shards with the index that Hugging Face libraries write."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from torch2mlx.common.amounts import listed
from torch2mlx.errors import AmbiguousCheckpointError, CheckpointError

MAX_INDEX_BYTES = 100_000_000
_NO_NAMES = ("", ".", "..")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_SHOWN = 5
_SHARD = re.compile(r"(?P<stem>.+)-(?P<part>\d+)-of-(?P<parts>\d+)\.\w+")


def read_json(path: Path) -> Any:
    """A JSON file from a stranger: bounded in size and depth."""
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_INDEX_BYTES // 1_000_000} MB")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise CheckpointError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from error


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{index}: has no weight_map")
    named: set[str] = set()  # looked at: of a few files many tensors are in each
    for key, name in found.items():
        if not isinstance(name, str) or (name not in named and not _is_name(name)):
            raise CheckpointError(f"{index}: {key!r} points to {name!r}, not a file beside it")
        named.add(name)
    return found


def _is_name(name: str) -> bool:
    """Whether this is the name of a file in the same folder."""
    return Path(name).name == name and "\\" not in name and name not in _NO_NAMES


def _one(paths: list[Path], directory: Path, what: str) -> Path:
    if len(paths) > 1:
        names = tuple(sorted(path.name for path in paths))
        raise AmbiguousCheckpointError(
            f"{directory}: has several {what}: {', '.join(names)}; pass one of them as the source",
            names,
        )
    return paths[0]


def _shards(paths: list[Path]) -> list[Path] | None:
    """All paths, when they are the complete numbered parts of one checkpoint."""
    found = [_SHARD.fullmatch(path.name) for path in paths]
    parts = {(m["stem"], int(m["parts"])) for m in found if m}
    if len(parts) != 1 or not all(found):
        return None
    expected = set(range(1, parts.pop()[1] + 1))
    return paths if {int(m["part"]) for m in found if m} == expected else None


def checkpoint_files(
    directory: Path, adapter: bool = False
) -> tuple[list[Path], dict[str, str] | None]:
    """The files of a checkpoint directory and, with an index, which key is in which.

    `adapter`: whether the weights of one of PEFT may lie beside them. safetensors win over
    pickles. Raises CheckpointError when there is no checkpoint or a shard is missing,
    AmbiguousCheckpointError when there are several.
    """
    files = sorted(p for p in directory.iterdir() if p.is_file())
    present = {path.name for path in files}
    aside = (".", "adapter_model.") if adapter else "."
    names = [path for path in files if not path.name.startswith(aside)]
    for suffix in _SUFFIXES:
        indices = [p for p in names if p.name.endswith(f"{suffix}.index.json")]
        if indices:
            weight_map = _weight_map(_one(indices, directory, "index files"))
            shards = sorted(set(weight_map.values()))
            missing = [name for name in shards if name not in present]
            if missing:
                raise CheckpointError(f"{directory}: shards are missing: {listed(missing, _SHOWN)}")
            return [directory / name for name in shards], weight_map
        found = [p for p in names if p.suffix == suffix]
        if found:
            parts = _shards(found) if len(found) > 1 else None
            return parts or [_one(found, directory, f"{suffix} files")], None
    raise CheckpointError(f"{directory}: holds no checkpoint ({', '.join(_SUFFIXES)})")


def other_weights(directory: Path, known: Container[str]) -> str | None:
    """The name of a file of weights that is none of the `known`, in a folder."""
    names = sorted(p.name for p in directory.iterdir() if p.is_file())
    shown = (n for n in names if not n.startswith(".") and n not in known)
    return next((n for n in shown if n.endswith((".safetensors", ".bin", ".index.json"))), None)
