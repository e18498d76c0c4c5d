"""Which inputs a transformers model is called with: those that its tokenizer or processor gives.

Told by the files beside the weights, else by the classes that transformers registers for the
architecture. Nothing is instantiated, downloaded or run.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.source.directory import read_json
from torch2mlx.errors import CheckpointError

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
#: Entries of such files that name a class.
_TYPES = ("image_processor_type", "feature_extractor_type")
_TOKENS = ("input_ids", "attention_mask")
#: Where transformers registers classes by the type of a model.
_REGISTERED = (
    ("image_processing_auto", "IMAGE_PROCESSOR_MAPPING_NAMES"),
    ("feature_extraction_auto", "FEATURE_EXTRACTOR_MAPPING_NAMES"),
)


def input_names(folder: Path, model_type: str, taken: Container[str]) -> list[str]:
    """Names of the inputs, out of those that the model's forward takes.

    A component whose first and main input the forward does not take is for something else: the
    tokenizer of a model that hears, for what it writes.
    """
    components = [_of_tokenizer(folder, model_type)]
    components += [_of_processor(*found) for found in _processors(folder, model_type)]
    names = [name for part in components if part and part[0] in taken for name in part]
    return [name for name in dict.fromkeys(names) if name in taken]


def _entries(path: Path) -> dict[str, Any]:
    """The entries of a configuration, {} where there is none."""
    with suppress(CheckpointError):
        content = read_json(path) if path.is_file() else {}
        return content if isinstance(content, dict) else {}
    return {}


def _class(name: Any) -> Any:
    """A class of transformers by its name; None where it is not one, or cannot be had here."""
    import transformers

    with suppress(Exception):  # it needs a library that is not installed
        found = getattr(transformers, str(name), None)
        return found if isinstance(found, type) and _names(found) else None
    return None


def _names(kind: Any) -> list[str]:
    found = getattr(kind, "model_input_names", None)
    return [str(name) for name in found] if isinstance(found, (list, tuple)) else []


def _of_tokenizer(folder: Path, model_type: str) -> list[str]:
    entries = _entries(folder / "tokenizer_config.json")
    told = entries.get("model_input_names")
    if isinstance(told, list) and told and all(isinstance(name, str) for name in told):
        return told
    registered = _mapping("tokenization_auto", "TOKENIZER_MAPPING_NAMES")
    kind = _class(entries.get("tokenizer_class")) or _class(registered.get(model_type))
    return _names(kind) or list(_TOKENS)


def _mapping(module: str, name: str) -> Mapping[str, Any]:
    """A table of transformers: type of a model -> names of classes."""
    with suppress(ImportError):
        found = getattr(importlib.import_module(f"transformers.models.auto.{module}"), name, {})
        return found if isinstance(found, Mapping) else {}
    return {}


def _processors(folder: Path, model_type: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(class, entries of its configuration) of image processors and feature extractors."""
    some = False
    for name in _PROCESSORS:
        entries = _entries(folder / name)
        for part in (entries, *(v for v in entries.values() if isinstance(v, dict))):
            kind = next((k for k in (_either(part.get(t)) for t in _TYPES) if k), None)
            if kind is not None:
                some = True
                yield kind, part
    for module, table in () if some else _REGISTERED:
        kind = _either(_mapping(module, table).get(model_type))
        if kind is not None:
            yield kind, {}


def _either(names: Any) -> Any:
    """The first class that can be had: some need one library, their twins another."""
    several = names.values() if isinstance(names, Mapping) else names
    listed = list(several) if not isinstance(several, (str, type(None))) else [several]
    listed += [f"{name}Pil" for name in listed if name]
    return next((kind for kind in map(_class, listed) if kind is not None), None)


def _of_processor(kind: Any, entries: Mapping[str, Any]) -> list[str]:
    """What a processor gives, as it is configured."""
    told = entries.get("model_input_names")
    names = told if isinstance(told, list) else _names(kind)
    return [name for name in names if name != "attention_mask" or _masks(kind, entries)]


def _masks(kind: Any, entries: Mapping[str, Any]) -> bool:
    """Whether a feature extractor gives a mask too: some are told to, some not to."""
    told = entries.get("return_attention_mask")
    if isinstance(told, bool):
        return told
    parameter = inspect.signature(kind.__init__).parameters.get("return_attention_mask")
    return parameter is None or bool(parameter.default)
