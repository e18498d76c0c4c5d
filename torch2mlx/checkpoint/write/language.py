"""The folder of a translated language model, as mlx-lm reads it: model.py, model.safetensors, a
config.json that names both, and what belongs to the tokenizer."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.write.folder import Verdict, check_replaced, replaced, sync_file
from torch2mlx.checkpoint.write.replacing import (
    Guard,
    file_digest,
    json_of,
    metadata_of,
    settled,
)
from torch2mlx.checkpoint.write.transaction import writing
from torch2mlx.checkpoint.write.translated import MARKERS

FORMAT = "torch2mlx language model 1"
#: The entry of config.json that says what wrote the folder.
OURS = "torch2mlx"
_WRITTEN = ("model.py", "model.safetensors", "config.json")
#: Files of a model's folder that say how texts become tokens, and how to generate.
_CARRIED: tuple[str, ...] = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)
#: How a model generates, as transformers writes it.
GENERATION = "generation_config.json"
_CARRIED += ("*.jinja", "*.spm", "spiece.model", "sentencepiece.*", GENERATION)


class _Earlier:
    """What an entry of a folder is: source that was edited since is the user's."""

    def __init__(self, folder: Path) -> None:
        said = json_of(folder / "config.json").get(OURS)
        self._said = said if isinstance(said, dict) and said.get("format") == FORMAT else {}

    def judge(self, path: Path) -> Verdict:
        if path.name == "model.safetensors":
            return "ours" if MARKERS & metadata_of(path).keys() else "other"
        if path.name == "model.py":
            known = self._said.get("source_sha256")
            return "ours" if known and known == file_digest(path) else "other"
        return "ours" if path.name in ("config.json", GENERATION) and self._said else "other"


def carried(source: Path | None) -> dict[str, Path | None]:
    """The files of a folder that go along with the model."""
    if source is None or not source.is_dir():
        return {}
    found = {path.name: path for pattern in _CARRIED for path in sorted(source.glob(pattern))}
    return {name: path for name, path in found.items() if path.is_file()}


def check_language(
    place: Path, source: Path | None, guard: Guard, texts: Iterable[str] = ()
) -> list[Path]:
    """The files that `save_language` would write. Raises WriteError where it would."""
    target = settled(place)
    made = {**dict.fromkeys((*_WRITTEN, *texts)), **carried(source)}
    with writing(target):
        check_replaced(target, _Earlier, guard, made)
    return [place / name for name in made]


def save_language(
    place: Path,
    text: str,
    config: Mapping[str, Any],
    write_weights: Callable[[Path], None],
    source: Path | None,
    guard: Guard,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Writes a folder with the source, the configuration, the arrays, for which `write_weights` is
    called, and what `source` has for the tokenizer; `texts` are more files, where `source` has none
    of that name.

    Raises WriteError, and leaves what is there, where something of the user's would be replaced.
    """
    target, more = settled(place), carried(source)
    own = {name: text for name, text in (texts or {}).items() if name not in more}
    made: dict[str, Path | None] = {**dict.fromkeys((*_WRITTEN, *own)), **more}
    digest = hashlib.sha256(text.encode()).hexdigest()
    told = {**config, "model_file": "model.py"}
    told[OURS] = {"format": FORMAT, "source_sha256": digest}
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target), replaced(target, _Earlier, guard, made) as (folder, notes):
        _write(folder / "model.py", text.encode())
        _write(folder / "config.json", (json.dumps(told, indent=2) + "\n").encode())
        write_weights(folder / "model.safetensors")
        for name, content in own.items():
            _write(folder / name, content.encode())
        for name, path in more.items():
            assert path is not None
            _write(folder / name, path.read_bytes())
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=3)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync_file(path)
