"""The model that an adapter is for, as far as its folder tells without its weights being read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.adapters.names import Names, of_type
from torch2mlx.checkpoint.plan import architectures
from torch2mlx.checkpoint.source import config_model
from torch2mlx.checkpoint.source.files import scan_safetensors
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.errors import CheckpointError
from torch2mlx.types import TensorSource

_MOST_LAYERS = 100_000


@dataclass(frozen=True)
class Base:
    """A model's folder: what config.json says, and its tensors in safetensors files, not read yet.

    `mlx`: whether the tensors have the names of MLX's module already.
    """

    folder: Path
    content: Mapping[str, Any]
    tensors: Mapping[str, _core.Tensor | _core.Foreign]
    mlx: bool

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The sizes of a tensor, None for one that is not there."""
        found = self.tensors.get(name)
        return None if found is None else found.shape

    def holds(self, name: str, tensor: TensorSource) -> bool:
        """Whether a tensor of the model is this one, in the model's own dtype."""
        own = self.tensors.get(name)
        if not isinstance(own, _core.Tensor) or own.shape != tensor.shape:
            return False
        return bytes(tensor.load().dense(own.dtype)) == bytes(own.dense())

    @property
    def names(self) -> Names | None:
        """What the table says of its model type."""
        kind = self.content.get("model_type")
        if not isinstance(kind, str) or isinstance(self.content.get("model_file"), str):
            return None
        return of_type(kind)

    def layers(self, names: Names | None) -> int:
        """How many layers it has; 0 where that is not told."""
        text = self.content.get("text_config")
        for content in (self.content, text if isinstance(text, dict) else {}):
            found = content.get(names.count if names else "num_hidden_layers")
            if isinstance(found, int) and 0 < found <= _MOST_LAYERS:
                return int(found)
        return 0

    @property
    def tied(self) -> bool | None:
        """Whether the output layer is the embedding; None where that is not told."""
        told = self.content.get("tie_word_embeddings")
        if isinstance(told, bool):
            return told
        listed = self.content.get("architectures")
        name = listed[0] if isinstance(listed, list) and listed else ""
        known = architectures.find(name) if isinstance(name, str) else None
        return known.tied if known is not None else None


def read_base(path: Any) -> Base:
    """What a folder tells of its model. Raises CheckpointError for one without a config.json."""
    folder = checked(path, "base")
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(f"{folder}: is no folder of a model: it has no config.json")
    found: dict[str, _core.Tensor | _core.Foreign] = {}
    formats = set()
    for file in sorted(folder.glob("*.safetensors")):
        if file.name.startswith(("model", "weights")):
            tensors, metadata = scan_safetensors(file)
            found.update(tensors)
            formats.add(metadata.get("format"))
    return Base(folder, config_model.read(config), found, "mlx" in formats)


def found_base(name: str) -> Base | None:
    """The base model that an adapter names, where that is a folder here."""
    if not name or "\0" in name or not os.path.isfile(os.path.join(name, "config.json")):
        return None
    return read_base(name)
