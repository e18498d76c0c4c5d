"""Models for the command line: a function that answers one, or a folder of transformers."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

from torch2mlx.common import options
from torch2mlx.errors import TranslationError
from torch2mlx.export.capture import examples, factories, processors
from torch2mlx.export.capture.folders import Wishes, model_in

_PLAIN = Wishes()
Source = tuple[Any, tuple[Any, ...], dict[str, Any]]


def find(text: str, wishes: Wishes = _PLAIN, inputs: str | None = None) -> Source:
    """(model, args, kwargs) of a function, or of a folder with a config.json and weights.

    A function is named file.py:function or package.module:function, and answers a model and its
    example inputs: `model, args` or `model, args, kwargs`. A folder's model gets `inputs` (see
    `examples.parse`), or those that its tokenizer or processor gives. Raises TranslationError with
    what to give instead, and what `model_in` raises.
    """
    if Path(text).is_dir():
        return from_folder(Path(text), wishes, inputs)
    if wishes.empty:
        raise TranslationError(f"{text!r} is no folder with a checkpoint to stream weights from")
    asked = [name for name, value in vars(wishes).items() if value and name != "empty"]
    asked += ["inputs"] if inputs else []
    if asked:
        names = {"unused": "ignore_unexpected"}
        flag = options.option(names.get(asked[0], asked[0]))
        raise TranslationError(f"{flag} is for folders; {text} makes its model and inputs itself")
    return factories.parts(factories.call(text), text)


def from_folder(folder: Path, wishes: Wishes = _PLAIN, inputs: str | None = None) -> Source:
    """A transformers model of a local folder, with its weights, and example inputs."""
    model = model_in(folder, wishes)
    examples.without_cache(model)
    if inputs:
        wanted = examples.parse(inputs)
    else:
        taken = inspect.signature(model.forward).parameters
        names = processors.input_names(folder, getattr(model.config, "model_type", ""), taken)
        wanted = examples.usual(model, names)
        missed = examples.left_out(names, wanted)
        if missed:
            warnings.warn(missed, UserWarning, stacklevel=2)
    return model, (), examples.made(model, wanted)


def model_of(text: str) -> Any:
    """The model of a function, which may answer it alone or with example inputs."""
    made = factories.call(text)
    return made if factories.is_torch_module(made) else factories.parts(made, text)[0]


def paths(text: str) -> tuple[str, ...]:
    """The file or folder that a source is in, as far as it has one."""
    return (factories.file_of(text),)
