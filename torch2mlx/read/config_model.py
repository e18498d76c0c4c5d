"""Layer types from the config.json beside a checkpoint, by the library that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch2mlx.errors import CheckpointError
from torch2mlx.optional import installed
from torch2mlx.read.directory import read_json


def find_config(files: tuple[str, ...]) -> Path | None:
    """The config.json in the folder of a checkpoint's files."""
    if not files:
        return None
    path = Path(files[0]).parent / "config.json"
    return path if path.is_file() else None


def can_build() -> bool:
    """Whether torch and transformers are installed; neither is imported."""
    return installed("torch") and installed("transformers")


def build(config: Path) -> Any | None:
    """The model that a config.json describes, on torch's meta device, or None.

    Only classes of transformers itself are used: no code that the folder may hold is run.
    """
    content = read_json(config)
    names = content.get("architectures") if isinstance(content, dict) else None
    if not isinstance(names, list) or len(names) != 1 or not can_build():
        return None
    import torch
    import transformers

    cls = getattr(transformers, str(names[0]), None)
    if cls is None or not hasattr(cls, "config_class"):
        return None
    try:
        parsed = cls.config_class.from_pretrained(config.parent, local_files_only=True)
        with torch.device("meta"):
            return cls(parsed)
    except Exception as error:
        raise CheckpointError(f"{config}: transformers cannot build {names[0]}: {error}") from error
