"""A transformers model of a local folder, with all of its weights, in the dtype of the file."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.checkpoint.plan.prefixes import select
from torch2mlx.checkpoint.source import config_model, foreign
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.common import options
from torch2mlx.common.amounts import listed
from torch2mlx.common.optional import need
from torch2mlx.errors import StateDictMismatchError, TranslationError
from torch2mlx.export.capture.empty_weights import empty_weights
from torch2mlx.types import TensorSource

#: What from_pretrained looks for, in its order; another checkpoint has to be the only one.
_STANDARD = ("model.safetensors", "pytorch_model.bin")
_FLOATS = ("float64", "float32", "bfloat16", "float16")
_SHOWN = 4


@dataclass(frozen=True)
class Wishes:
    """How a folder's model is made.

    `empty`: without values, weights on the meta device. `dtype`: another than the file's. `key`
    and `prefix`: which part of a nested checkpoint. `unused`: whether weights that the model does
    not take may be left out.
    """

    empty: bool = False
    dtype: str | None = None
    key: str | None = None
    prefix: str = ""
    unused: bool = False


def model_in(folder: Path, wishes: Wishes) -> Any:
    """The model that a folder's config.json names, with the weights beside it, in eval mode.

    Raises CheckpointError where there are no weights, StateDictMismatchError where they are not
    the model's, TranslationError for a config.json that names no model of transformers.
    """
    need(f"{folder}: making the model of a config.json", "torch", "transformers")
    config = folder / "config.json"
    if not config.exists():
        raise TranslationError(f"{folder}: no config.json")
    content = config_model.read(config)
    if content.get("quantization_config"):
        raise TranslationError(f"{config}: the weights are quantized; dequantize the model first")
    foreign.refuse_folder(folder)
    with config_model.offline(), _quietly():
        kind, parsed = _parsed(config, content)
        checkpoint = open_checkpoint(weights_of(folder), wishes.key)
        if wishes.prefix:
            checkpoint = select(checkpoint, wishes.prefix)[0]
        tensors = checkpoint.tensors
        dtype = _dtype(tensors, wishes, parsed)
        if wishes.empty:
            with empty_weights():
                return _made(kind, parsed, dtype).eval()
        return _loaded(kind, parsed, tensors, dtype, folder, wishes.unused).eval()


def weights_of(folder: Path) -> Path:
    """The file of a folder that its weights are in, or the folder, where they are in several.

    Training leaves other files beside them: the standard names go before.
    """
    files = {path.name for path in folder.iterdir()}
    name = next((name for name in _STANDARD if name in files), None)
    sharded = any(file.endswith(".safetensors.index.json") for file in files)
    plain = name is None or (sharded and not name.endswith(".safetensors"))
    return folder if plain else folder / str(name)


def _dtype(tensors: Mapping[str, TensorSource], wishes: Wishes, parsed: Any) -> Any:
    """The dtype of the model: that which was asked for, else the file's."""
    import torch

    if wishes.dtype is not None:
        return getattr(torch, wishes.dtype)
    held = Counter(t.dtype for t in tensors.values() if t.dtype in _FLOATS)
    told = str(getattr(parsed, "dtype", None) or "").removeprefix("torch.")
    name = told if told in held else held.most_common(1)[0][0] if held else "float32"
    if name == "float64":
        warnings.warn("float64 becomes float32: no GPU runs it in MLX", UserWarning, stacklevel=2)
        name = "float32"
    elif len(held) > 1:
        shown = ", ".join(f"{count} {dtype}" for dtype, count in held.most_common())
        warnings.warn(
            f"the weights have several dtypes ({shown}), the model gets {name}; "
            f"{options.option('dtype')} chooses another",
            UserWarning,
            stacklevel=2,
        )
    return getattr(torch, name)


def _loaded(
    kind: Any,
    parsed: Any,
    tensors: Mapping[str, TensorSource],
    dtype: Any,
    folder: Path,
    unused: bool,
) -> Any:
    """The model with its weights, all of which have to be there."""
    state = {key: _tensor(source) for key, source in tensors.items()}
    model, found = kind.from_pretrained(
        None,
        config=parsed,
        state_dict=state,
        dtype=dtype,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    _refuse(f"{folder}: the weights are not those of {kind.__name__}", found, unused)
    return model


def _refuse(head: str, found: Mapping[str, Any], unused: bool) -> None:
    """Raises StateDictMismatchError for what transformers would draw at random or leave out."""
    odd = [
        f"{key} is {tuple(given)} and has to be {tuple(wanted)}"
        for key, given, wanted in sorted(found.get("mismatched_keys") or ())
    ]
    parts = [
        ("missing", sorted(found.get("missing_keys") or ())),
        ("unexpected", [] if unused else sorted(found.get("unexpected_keys") or ())),
        ("of another shape", odd),
        ("not loaded", sorted(map(str, found.get("error_msgs") or ()))),
    ]
    told = [f"{what}: {listed(names, _SHOWN)}" for what, names in parts if names]
    if not told:
        return
    only_more = parts[1][1] and len(told) == 1
    more = options.given("ignore_unexpected", True)
    advice = f"; {more} leaves these out, as from_pretrained does" if only_more else ""
    raise StateDictMismatchError(f"{head}; {'; '.join(told)}{advice}")


def _tensor(source: TensorSource) -> Any:
    """A tensor of a checkpoint as torch's, in memory of its own."""
    import torch

    found = source.load()
    dtype = getattr(torch, found.dtype)
    if 0 in found.shape:
        return torch.empty(found.shape, dtype=dtype)
    raw = np.asarray(found.dense()).reshape(-1).view(np.uint8).copy()
    return torch.from_numpy(raw).view(dtype).reshape(tuple(found.shape))


def _parsed(config: Path, content: dict[str, Any]) -> tuple[Any, Any]:
    """(class to make, configuration without what would import or download something)."""
    import transformers

    name = config_model.architecture(config, content)
    kind = config_model.model_class(name) if name else None
    entries = config_model.cleaned(content)
    if kind is not None:
        return kind, kind.config_class.from_dict(entries)
    try:
        parsed = transformers.AutoConfig.for_model(**entries)
        with empty_weights():
            return type(transformers.AutoModel.from_config(parsed)), parsed
    except (TypeError, ValueError) as error:
        told = str(error).partition(" Should contain one of")[0]  # hundreds of names
        raise TranslationError(
            f"{config}: names no model of the installed transformers: {told}"
        ) from error


def _made(kind: Any, parsed: Any, dtype: Any) -> Any:
    return kind._from_config(parsed, dtype=dtype)


@contextmanager
def _quietly() -> Iterator[None]:
    """Within it, transformers draws no bars: what it finds is told by us."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
