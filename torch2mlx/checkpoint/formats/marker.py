"""What a converted file says of itself: the plan, as JSON in the safetensors metadata.

    {"version": 2, "writer": "0.1.0",
     "tensors": [[key, dtype, shape, recipe], ...],   source tensors in their order
     "made": [[how, dim, [sources], dtype, shape, recipe], ...],   tensors computed from them
     "shared": [[key, ...], ...],                     source keys that are one tensor
     "ties": {target: target that has the bytes},
     "sidecar": {"file": name, "sha256": hex} | null,
     "values": {key: JSON}}                           entries that were no tensors

Recipes: ["t", target] as it is; ["l", target, layout, sizes] undo a layout; ["c", [targets]]
join along dimension 0; ["s"] from the sidecar. Version 1 has neither "made" nor "shared".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.formats.schema import (
    DIGESTS,
    KEY,
    VERSION,
    Marker,
    NewerVersion,
    Part,
    parse_digests,
    parse_marker,
)
from torch2mlx.common.collecting import paused
from torch2mlx.common.lock import hidden
from torch2mlx.common.options import option
from torch2mlx.errors import NotConvertedError, RevertError
from torch2mlx.types import Plan

#: How the name of a sidecar ends that is on its way to its place.
PENDING = ".t2m-pair"


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


def _content(
    plan: Plan, writer: str, values: Mapping[str, Any], sidecar: Mapping[str, str] | None
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "writer": writer,
        "tensors": [(t.key, t.dtype, t.shape, t.recipe) for t in plan.traces],
        "made": [(m.how, m.dim, m.sources, m.dtype, m.shape, m.recipe) for m in plan.made],
        "shared": plan.shared,
        "ties": dict(plan.ties),
        "sidecar": sidecar,
        "values": values,
    }


@paused()
def marker(
    plan: Plan, writer: str, values: Mapping[str, Any], sidecar: Mapping[str, str] | None
) -> dict[str, str]:
    """The metadata of a converted file."""
    content = _content(plan, writer, values, sidecar)
    return {"format": "mlx", KEY: json.dumps(content, separators=(",", ":"))}


def part_marker(first: str) -> dict[str, str]:
    """The metadata of a further shard: where the plan is."""
    content = {"version": VERSION, "part_of": first}
    return {"format": "mlx", KEY: json.dumps(content, separators=(",", ":"))}


def marker_of(plan: Plan, values: Mapping[str, Any]) -> Marker:
    """What the file of a plan would say of itself, without the file."""
    kept = json.loads(json.dumps(plain_values(values)[0]))
    return Marker(VERSION, "", plan.traces, plan.made, plan.shared, dict(plan.ties), None, kept)


def read_marker(path: Path, metadata: Mapping[str, str]) -> Marker | Part:
    """The plan of a converted file, or where it is.

    Raises NotConvertedError when the file has none, or one that is damaged.
    """
    if KEY not in metadata:
        if "torch2mlx_translation" in metadata:
            raise NotConvertedError(
                f"{path}: holds weights as translate wrote them, without what torch has for them; "
                "mx.load reads them, and revert or to_torch take them in Python, with the torch "
                "module as like="
            )
        raise NotConvertedError(
            f"{path}: was not written by torch2mlx; use convert first, or, for weights that were "
            f"trained since, revert with {option('like')} what they were converted from"
        )
    try:
        return parse_marker(metadata[KEY])
    except NewerVersion as error:
        raise NotConvertedError(
            f"{path}: has format version {error}; this torch2mlx reads 1 to {VERSION}"
        ) from error
    except ValueError as error:
        raise NotConvertedError(
            f"{path}: the torch2mlx entry of its metadata is damaged: {error}"
        ) from error


def read_digests(path: Path, metadata: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """(dtype, digest) of the computed tensors of one file, as they were written."""
    try:
        return parse_digests(metadata[DIGESTS]) if DIGESTS in metadata else {}
    except ValueError as error:
        raise NotConvertedError(
            f"{path}: the {DIGESTS} entry of its metadata is damaged: {error}"
        ) from error


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def pending_sidecar(beside: Path, sha256: str) -> Path:
    """The name that a new sidecar has until the file that it belongs to is in its place."""
    return hidden(beside, f"{sha256[:16]}{PENDING}")


def check_sidecar(path: Path, sidecar: Mapping[str, str]) -> Path:
    """The sidecar of a converted file. Raises RevertError when it is lost or another one.

    A process that was killed while it wrote both may have left it under its first name. Behind a
    symbolic link it lies beside the file itself.
    """
    beside = path.parent / sidecar["file"]
    if path.is_symlink() and not beside.exists():
        beside = path.resolve().parent / beside.name
    pending = pending_sidecar(beside, sidecar["sha256"])
    with suppress(OSError):  # it may move on at any moment
        if pending.is_file() and digest(pending) == sidecar["sha256"]:
            return pending
    if not beside.is_file():
        raise RevertError(f"{path}: its sidecar {beside.name} is missing; put it beside the file")
    if digest(beside) != sidecar["sha256"]:
        raise RevertError(f"{beside}: is not the sidecar that {path.name} was written with")
    return beside
