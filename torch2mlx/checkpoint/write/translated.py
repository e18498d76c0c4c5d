"""The folder of a translated model: source, weights and config, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.formats.schema import KEY
from torch2mlx.checkpoint.write.folder import Verdict, check_replaced, replaced, sync_file
from torch2mlx.checkpoint.write.replacing import (
    SIDECAR_KEY,
    Guard,
    file_digest,
    json_of,
    metadata_of,
    settled,
)
from torch2mlx.checkpoint.write.transaction import writing
from torch2mlx.errors import WriteError

FORMAT = "torch2mlx translation 1"
_WEIGHTS = ("weights.safetensors", "constants.safetensors", "weights.torch.safetensors")
_MARKER = {"format": "mlx", "torch2mlx_translation": "1"}
MARKERS = {KEY, SIDECAR_KEY, "torch2mlx_translation"}


class _Earlier:
    """What an entry of a folder is: source that was edited since is the user's."""

    def __init__(self, folder: Path) -> None:
        config = json_of(folder / "config.json")
        self._config = config if config.get("format") == FORMAT else {}

    def judge(self, path: Path) -> Verdict:
        if path.name in _WEIGHTS:
            return "ours" if MARKERS & metadata_of(path).keys() else "other"
        if path.name == "model.py":
            known = self._config.get("source_sha256")
            return "ours" if known and known == file_digest(path) else "other"
        return "ours" if path.name == "config.json" and self._config else "other"


def save_arrays(path: Path, arrays: Mapping[str, Any], folder: Path) -> None:
    """Writes MLX arrays, with a marker; `folder` is where they will be, for messages."""
    import mlx.core as mx

    double = [name for name, array in arrays.items() if array.dtype == mx.float64]
    if double:
        raise WriteError(
            f"{folder / path.name}: {double[0]!r} is float64, which MLX does not save: translate "
            "model.float() to run in float32"
        )
    try:
        mx.save_safetensors(str(path), dict(arrays), _MARKER)
    except RuntimeError as error:
        raise WriteError(f"{folder / path.name}: cannot be written: {error}") from error
    sync_file(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sync_file(path)


def _made(constants: bool) -> dict[str, Path | None]:
    names = ["model.py", "config.json", "weights.safetensors"]
    return dict.fromkeys(names + ["constants.safetensors"] * constants)


def check_translated(place: Path, constants: bool, guard: Guard) -> list[Path]:
    """The files that `translated_folder` would write. Raises WriteError where it would."""
    target, made = settled(place), _made(constants)
    with writing(target):
        check_replaced(target, _Earlier, guard, made)
    return [place / name for name in made]


@contextmanager
def translated_folder(
    place: Path, source: str, config: Mapping[str, Any], constants: bool, guard: Guard
) -> Iterator[Path]:
    """A new folder with model.py and config.json, for the weights; in its place afterwards.

    Raises WriteError, and leaves what is there, where something of the user's would be replaced.
    """
    target, made = settled(place), _made(constants)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target), replaced(target, _Earlier, guard, made) as (folder, notes):
        _write_text(folder / "model.py", source)
        digest = hashlib.sha256(source.encode()).hexdigest()
        text = json.dumps({**config, "format": FORMAT, "source_sha256": digest}, indent=2)
        _write_text(folder / "config.json", text + "\n")
        yield folder
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=4)
