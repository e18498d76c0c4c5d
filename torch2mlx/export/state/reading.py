"""The folder of a language model read back, as mlx-lm reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from torch2mlx.errors import TranslationError


def is_language(program: Any) -> bool:
    """Whether a folder's program is a language model to mlx-lm's contract."""
    return hasattr(program, "Model") and hasattr(program, "ModelArgs")


def keeps_cache(model: Any) -> bool:
    """Whether a model that was loaded is one to mlx-lm's contract, or encodes once and decodes."""
    return hasattr(model, "make_cache") and (hasattr(model, "sanitize") or hasattr(model, "encode"))


def language_in(place: Path, program: Any) -> Any:
    """The model of a folder's program, with the weights beside it.

    Raises TranslationError for a folder without weights, and for weights that are quantized.
    """
    import mlx.core as mx

    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    if "quantization" in config:
        raise TranslationError(f"{place}: its weights are quantized; mlx_lm.load reads them")
    files = sorted(place.glob("model*.safetensors"))
    if not files:
        raise TranslationError(f"{place}: model.safetensors is missing")
    model = program.Model(program.ModelArgs.from_dict(config))
    weights: dict[str, Any] = {}
    for file in files:
        weights |= cast(dict[str, Any], mx.load(str(file)))
    model.load_weights(list(model.sanitize(weights).items()), strict=True)
    return model.eval()
