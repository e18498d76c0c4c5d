"""Files of a checkpoint folder that MLX programs need beside the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.source.directory import read_json
from torch2mlx.errors import CheckpointError

_PATTERNS = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.md")
#: Of an adapter that lies beside the model, which is not what is written.
_NOT_THE_MODELS = ("adapter_config.json",)


def companions(source: Path) -> tuple[list[Path], list[str]]:
    """Config, tokenizer and the like; not the index of the torch weights. And notes.

    A symbolic link is followed to a file of the folder itself, or of the same repository in the
    cache of the Hugging Face hub, whose snapshots are made of links into its blobs. Any other may
    lead to what was never meant to be published: it is left out, with a note.
    """
    real = source.resolve()
    homes = {real}
    if real.parent.name == "snapshots":
        homes.add(real.parent.parent / "blobs")
    found, notes = [], []
    for path in sorted(p for pattern in _PATTERNS for p in source.glob(pattern)):
        if not path.is_file() or path.name.endswith((".index.json", *_NOT_THE_MODELS)):
            continue
        if path.is_symlink() and path.resolve().parent not in homes:
            notes.append(f"{path.name} is a symbolic link that leads out of its folder: not copied")
        else:
            found.append(path)
            told = witholder_names(path)[1] if path.name == "config.json" else ""
            notes += [told] if told else []
    return found, notes


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _of_rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """What stood beside `rope_parameters` before transformers 5 put it there."""
    old = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
    if rope.get("rope_type", "default") != "default":
        old["rope_scaling"] = {name: v for name, v in rope.items() if name not in old}
    return old


def older_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a model's configuration under the names that mlx-lm reads, where they lack."""
    rope, kind = config.get("rope_parameters"), config.get("model_type")
    found: dict[str, Any] = {}
    if isinstance(rope, dict) and _number(rope.get("rope_theta")):
        found = _of_rope(rope)
        if kind == "gpt_neox":
            found["rotary_emb_base"] = rope["rope_theta"]
            found["rotary_pct"] = rope.get("partial_rotary_factor", 1.0)
    if kind == "gpt2" and "n_positions" in config:
        found["n_ctx"] = config["n_positions"]
    return {name: value for name, value in found.items() if config.get(name) is None}


def witholder_names(path: Path) -> tuple[dict[str, Any] | None, str]:
    """A config.json with all that mlx-lm reads, and a note on it; None where nothing lacks.

    transformers 5 writes some entries under new names alone. mlx-lm takes a default for one that
    it does not find, of the rotary embeddings' base for example, and computes something else.
    """
    try:
        content = read_json(path)
    except CheckpointError:
        return None, ""  # copied as it is
    if not isinstance(content, dict):
        return None, ""
    added = older_names(content)
    text = content.get("text_config")
    text = text if isinstance(text, dict) else {}
    inner = older_names(text)
    if not added and not inner:
        return None, ""
    names = ", ".join((*added, *(f"text_config.{name}" for name in inner)))
    whole = {**content, **added}
    if inner:
        whole["text_config"] = {**text, **inner}
    return whole, f"{path.name}: {names} added, as mlx-lm calls what transformers 5 renamed"


def copy_companion(path: Path, folder: Path) -> Path:
    """Copies content, not mode; a config.json with all that mlx-lm reads.

    Raises CheckpointError when it cannot be read.
    """
    target = folder / path.name
    whole = witholder_names(path)[0] if path.name == "config.json" else None
    if whole is not None:
        target.write_text(json.dumps(whole, indent=2) + "\n")
        return target
    try:
        with path.open("rb") as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return target
