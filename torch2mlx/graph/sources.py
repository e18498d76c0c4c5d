"""Models for the command line: a Python factory, or a folder of transformers with example
inputs."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.graph import factories
from torch2mlx.graph.empty import empty_weights
from torch2mlx.optional import need
from torch2mlx.read import config_model

Source = tuple[Any, tuple[Any, ...], dict[str, Any]]


def find(text: str, empty: bool = False) -> Source:
    """(model, args, kwargs) of a function, or of a folder with a config.json.

    A function is named file.py:function or package.module:function, and answers a model and its
    example inputs: `model, args` or `model, args, kwargs`. `empty`: a folder's model is made
    without values. Raises TranslationError with what to give instead.
    """
    if Path(text).is_dir():
        return from_folder(Path(text), empty)
    if empty:
        raise TranslationError(f"{text!r} is no folder with a checkpoint to stream weights from")
    return factories.parts(factories.call(text), text)


def model_of(text: str) -> Any:
    """The model of a function, which may answer it alone or with example inputs."""
    made = factories.call(text)
    return made if factories.is_torch_module(made) else factories.parts(made, text)[0]


def paths(text: str) -> tuple[str, ...]:
    """The file or folder that a source is in, as far as it has one."""
    return (factories.file_of(text),)


def from_folder(folder: Path, empty: bool = False) -> Source:
    """A transformers model from a local folder, weights included when they are there."""
    need(f"{folder}: making the model of a config.json", "torch", "transformers")
    config = folder / "config.json"
    if not config.exists():
        raise TranslationError(f"{folder}: no config.json")
    content = config_model.read(config)
    if content.get("quantization_config"):
        raise TranslationError(f"{config}: the weights are quantized; dequantize the model first")
    weights = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    if empty and not weights:
        raise TranslationError(f"{folder}: no weights to stream")
    kind, parsed = _parsed(config, content)
    with config_model.offline():
        if weights and not empty:
            model = kind.from_pretrained(
                folder, config=parsed, local_files_only=True, trust_remote_code=False
            )
        else:
            with empty_weights() if empty else nullcontext():
                model = _make(kind, parsed).float()
    return model.float().eval(), (), example_inputs(model)


def _parsed(config: Path, content: dict[str, Any]) -> tuple[Any, Any]:
    """(class to make, configuration without what would import or download something)."""
    import transformers

    name = config_model.architecture(config, content)
    kind = config_model.model_class(name) if name else None
    entries = config_model.cleaned(content)
    if kind is not None:
        return kind, kind.config_class.from_dict(entries)
    try:
        return transformers.AutoModel, transformers.AutoConfig.for_model(**entries)
    except (TypeError, ValueError) as error:
        raise TranslationError(
            f"{config}: names no model of the installed transformers: {error}"
        ) from error


def _make(kind: Any, parsed: Any) -> Any:
    if kind.__name__ == "AutoModel":
        return kind.from_config(parsed, trust_remote_code=False)
    return kind._from_config(parsed)


def example_inputs(model: Any) -> dict[str, Any]:
    """Inputs of usual shapes for a transformers model, by its main input and its config."""
    import torch

    names = inspect.signature(model.forward).parameters
    draw = torch.Generator().manual_seed(0)
    config, main = model.config, model.main_input_name
    text = getattr(config, "text_config", config)
    words = max(getattr(text, "vocab_size", 100) or 100, 4)
    ids = torch.randint(3, min(words, 1000), (2, 9), generator=draw)
    given: dict[str, Any] = {}
    if main == "input_ids":
        given["input_ids"] = ids
        if "decoder_input_ids" in names:
            given["decoder_input_ids"] = ids[:, :5]
    elif main == "pixel_values":
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", 224) or 224
        height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
        channels = getattr(vision, "num_channels", 3) or 3
        given[main] = torch.randn(2, channels, height, width, generator=draw)
    elif main == "input_values":
        given[main] = torch.randn(2, 16000, generator=draw)
    elif main == "input_features":
        frames = 2 * getattr(config, "max_source_positions", 1500)
        given[main] = torch.randn(1, getattr(config, "num_mel_bins", 80), frames, generator=draw)
        if "decoder_input_ids" in names:
            given["decoder_input_ids"] = ids[:1, :5]
    else:
        raise TranslationError(
            f"no example inputs are known for {main!r}: give a factory, package.module:function"
        )
    return {**given, "use_cache": False} if "use_cache" in names else given
