"""What a converted file says of itself: the plan, as JSON in the safetensors metadata.

    {"version": 1, "writer": "0.1.0",
     "tensors": [[key, dtype, shape, recipe], ...],   source tensors in their order
     "ties": {target: target that has the bytes},
     "sidecar": {"file": name, "sha256": hex} | null,
     "values": {key: JSON}}                           entries that were no tensors

Recipes: ["t", target] as it is; ["l", target, layout, sizes] undo a layout; ["c", [targets]]
join along dimension 0; ["s"] from the sidecar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch2mlx.errors import NotConvertedError, RevertError
from torch2mlx.types import Plan

VERSION = 1
KEY = "torch2mlx"


def plain_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Entries that JSON holds exactly, and the keys of those it cannot."""
    kept, lost = {}, []
    for key, value in values.items():
        try:
            exact = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError, RecursionError):
            exact = False
        if exact:
            kept[key] = value
        else:
            lost.append(key)
    return kept, lost


def marker(
    plan: Plan, writer: str, values: Mapping[str, Any], sidecar: Mapping[str, str] | None
) -> dict[str, str]:
    """The metadata of a converted file."""
    content = {
        "version": VERSION,
        "writer": writer,
        "tensors": [[t.key, t.dtype, list(t.shape), list(t.recipe)] for t in plan.traces],
        "ties": dict(plan.ties),
        "sidecar": sidecar,
        "values": values,
    }
    return {"format": "mlx", KEY: json.dumps(content, separators=(",", ":"))}


def part_marker(first: str) -> dict[str, str]:
    """The metadata of a further shard: where the plan is."""
    content = {"version": VERSION, "part_of": first}
    return {"format": "mlx", KEY: json.dumps(content, separators=(",", ":"))}


def read_marker(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The plan of a converted file. Raises NotConvertedError when it has none."""
    if KEY not in metadata:
        raise NotConvertedError(f"{path}: was not written by torch2mlx; use convert first")
    try:
        content = json.loads(metadata[KEY])
        version = content["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotConvertedError(
            f"{path}: the torch2mlx entry of its metadata is damaged"
        ) from error
    if version != VERSION:
        raise NotConvertedError(
            f"{path}: has format version {version}; this torch2mlx reads {VERSION}"
        )
    return content


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def check_sidecar(path: Path, sidecar: Mapping[str, str]) -> Path:
    """The sidecar of a converted file. Raises RevertError when it is lost or another one."""
    beside = path.parent / Path(sidecar["file"]).name
    if not beside.is_file():
        raise RevertError(f"{path}: its sidecar {beside.name} is missing; put it beside the file")
    if digest(beside) != sidecar["sha256"]:
        raise RevertError(f"{beside}: is not the sidecar that {path.name} was written with")
    return beside
