"""An adapter of PEFT as it lies in a folder: its configuration, and its tensors by module."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.adapters.settings import (
    CONFIG,
    Settings,
    read_content,
    settings,
    type_of,
)
from torch2mlx.checkpoint.source.opening import open_adapter
from torch2mlx.common.amounts import listed
from torch2mlx.common.options import given, option
from torch2mlx.errors import CheckpointError, ConversionError
from torch2mlx.types import TensorSource

#: What PEFT calls the file with the weights, the first that is there.
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
_PARTS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_B.bias": "bias",
    "lora_embedding_A": "a",
    "lora_embedding_B": "b",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
_PART = re.compile(r"(?:(?P<module>.+)\.)?(?P<part>" + "|".join(map(re.escape, _PARTS)) + ")")
#: Signs of PEFT's other kinds of tensors, and of LoRA's that this does not know.
_OTHER = re.compile(
    r"\.(lora_\w+|ia3_l|vera_\w+|hada_\w+|lokr_\w+|oft_\w+|boft_\w+|token_adapter|prompt_embeddings|"
    r"adaption_\w+|hra_\w+|ln_tuning_\w+)(\.|$)"
)


@dataclass(frozen=True)
class LowRank:
    """The update of one module: scale * b @ a, with `a` (r, in) and `b` (out, r).

    Of an embedding `a` is (r, rows) and `b` (columns, r), and the update the transpose. `bias`
    (out,) is added with the same scale; `magnitude` (out,) is the length of each row, of DoRA.
    """

    module: str
    rank: int
    scale: float
    a: TensorSource
    b: TensorSource
    embedding: bool = False
    bias: TensorSource | None = None
    magnitude: TensorSource | None = None

    @property
    def tensors(self) -> tuple[TensorSource, ...]:
        return tuple(t for t in (self.a, self.b, self.bias, self.magnitude) if t is not None)


@dataclass(frozen=True)
class Adapter:
    """An adapter of PEFT: `origin` is where it is from, for messages; modules without prefix.

    `whole` are tensors that were trained as they are, by their names in the base model. `live` is
    the model of PEFT that it lives in, where it was not read from a folder.
    """

    origin: str
    settings: Settings
    modules: Mapping[str, LowRank]
    whole: Mapping[str, TensorSource] = field(default_factory=dict)
    folder: Path | None = None
    files: tuple[str, ...] = ()
    live: Any = None


def is_adapter(path: Path) -> bool:
    """Whether a path is a folder of PEFT, or the file with the weights of one."""
    if os.path.isfile(path):
        return path.name in WEIGHTS and os.path.isfile(path.parent / CONFIG)
    return all(any(os.path.isfile(path / n) for n in names) for names in ((CONFIG,), WEIGHTS))


def read_adapter(path: Path, verify: bool = True) -> Adapter:
    """The adapter in a folder, or the one that a file of weights is of.

    Raises CheckpointError for what is damaged, and ConversionError for another kind of adapter.
    """
    folder = path.parent if path.is_file() else path
    config = folder / CONFIG
    content = read_content(config)
    kind = type_of(os.fspath(config), content)
    if kind != "LORA":
        raise ConversionError(other_kind(os.fspath(config), kind))
    found = settings(os.fspath(config), content)
    weights = path if path.is_file() else _weights(folder)
    opened = open_adapter(weights, verify)
    read = gathered(os.fspath(weights), found, opened.tensors)
    return replace(read, folder=folder, files=(os.fspath(config), os.fspath(weights)))


def other_kind(path: str, kind: str) -> str:
    """That an adapter is of a kind that is no LoRA, and what to do about it."""
    return (
        f"{path}: is an adapter of kind {kind[:40]}; LoRA and DoRA can be converted: merge it with "
        "PEFT (peft.AutoPeftModel.from_pretrained(folder).merge_and_unload().save_pretrained"
        "('merged'), for kinds that can be merged), and convert the model"
    )


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: has {CONFIG}, but neither {' nor '.join(WEIGHTS)}")


def gathered(origin: str, found: Settings, tensors: Mapping[str, TensorSource]) -> Adapter:
    """An adapter from its tensors by name, checked against its configuration."""
    if found.content.get("target_parameters"):
        raise ConversionError(
            f"{origin}: adapts parameters that are no layer's weight, such as stacked experts "
            f"(target_parameters: {listed(found.content['target_parameters'], 3)}): merge it with "
            "PEFT (merge_and_unload), and convert the model"
        )
    parts: dict[str, dict[str, tuple[str, TensorSource]]] = {}
    whole: dict[str, TensorSource] = {}
    for key, tensor in tensors.items():
        name = _bare(key, origin)
        match = _PART.fullmatch(name)
        if match is None:
            whole[_plain(name, key, origin)] = tensor
            continue
        own = parts.setdefault(match["module"] or "", {})
        kind = _PARTS[match["part"]]
        if kind in own:
            raise CheckpointError(f"{origin}: has {own[kind][0]!r} and {key!r}, of which one is it")
        own[kind] = (key, tensor)
    if not parts:
        raise CheckpointError(f"{origin}: holds no tensors of LoRA, such as lora_A.weight")
    modules = {name: _low_rank(origin, found, name, own) for name, own in parts.items()}
    return Adapter(origin, found, modules, whole)


def _bare(key: str, origin: str) -> str:
    if not key.startswith(PREFIX):
        raise CheckpointError(
            f"{origin}: {key!r} does not begin with {PREFIX!r}, as the names of PEFT do"
        )
    return key.removeprefix(PREFIX)


def _plain(name: str, key: str, origin: str) -> str:
    """The name in the base model of a tensor that was trained whole."""
    if match := _OTHER.search(name):
        raise CheckpointError(
            f"{origin}: {key!r} is no tensor of LoRA that is known here ({match[1]}): save the "
            "adapter with PEFT's save_pretrained"
        )
    return name.replace(".modules_to_save.", ".").replace(".base_layer.", ".")


def _low_rank(
    origin: str, found: Settings, module: str, own: Mapping[str, tuple[str, TensorSource]]
) -> LowRank:
    """The update of one module, its shapes held against each other and the configuration."""
    for part, name in (("a", "lora_A"), ("b", "lora_B")):
        if part not in own:
            key = next(iter(own.values()))[0]
            raise CheckpointError(f"{origin}: has {key!r} without the {name} of this module")
    (key_a, a), (key_b, b) = own["a"], own["b"]
    for key, tensor in own.values():
        _check_dtype(origin, key, tensor)
    for key, tensor in (own["a"], own["b"]):
        if len(tensor.shape) != 2 and not (len(tensor.shape) > 2 and _is_convolution(own)):
            raise CheckpointError(f"{origin}: {key!r} is {tensor.shape}, not a matrix")
    rank = found.rank_of(module)
    columns = b.shape[1] if len(b.shape) > 1 else 0
    for key, size in ((key_a, a.shape[0]), (key_b, columns)):
        if size != rank:
            raise CheckpointError(
                f"{origin}: {key!r} is of rank {size}, and {found.path} says {rank}"
            )
    for part in ("bias", "magnitude"):
        if part in own:
            key, tensor = own[part]
            _check_vector(origin, key, tensor, b.shape[0])
    return LowRank(
        module,
        rank,
        found.scale_of(module),
        a,
        b,
        "lora_embedding_A" in key_a,
        own["bias"][1] if "bias" in own else None,
        own["magnitude"][1] if "magnitude" in own else None,
    )


def _is_convolution(own: Mapping[str, tuple[str, TensorSource]]) -> bool:
    return len({len(own[part][1].shape) for part in ("a", "b")}) == 1


def _check_dtype(origin: str, key: str, tensor: TensorSource) -> None:
    if tensor.dtype not in ("float32", "float16", "bfloat16", "float64"):
        raise CheckpointError(f"{origin}: {key!r} is {tensor.dtype}, not of floating point")


def _check_vector(origin: str, key: str, tensor: TensorSource, length: int) -> None:
    # of a convolution (1, out, 1, 1)
    if len([size for size in tensor.shape if size != 1]) > 1 or _size(tensor) != length:
        raise CheckpointError(
            f"{origin}: {key!r} is {tensor.shape}, not one number for each of {length} rows"
        )


def _size(tensor: TensorSource) -> int:
    size = 1
    for length in tensor.shape:
        size *= length
    return size


def unsayable(adapter: Adapter) -> Iterator[str]:
    """What mlx-lm's format cannot say of an adapter, of whatever model it is."""
    yield from (_told(name) for name in adapter.settings.unknown)
    if adapter.settings.bias != "none":
        yield f"biases were trained (bias={adapter.settings.bias!r})"
    if adapter.whole:
        yield f"it holds whole tensors of the model: {listed(adapter.whole, 3)}"
    elif adapter.settings.saved:
        yield f"modules_to_save is set: {listed(adapter.settings.saved, 3)}"
    updates = adapter.modules.values()
    if biased := [u.module for u in updates if u.bias is not None]:
        yield f"lora_B has a bias: {listed(biased, 3)}"
    if flat := [u.module for u in updates if len(u.a.shape) > 2]:
        yield f"convolutions were adapted: {listed(flat, 3)}"
    yield from _several("rank", [u.rank for u in updates])
    yield from _several("scale", [u.scale for u in updates])
    yield from _of_dora(list(updates))


def _told(entry: str) -> str:
    """What an entry of the configuration means for whoever reads the numbers alone."""
    if "=" in entry:
        return f"{entry} changes the base weights too"
    return f"{entry} is set, which may change what LoRA computes"


def _several(what: str, values: list[Any]) -> Iterator[str]:
    found = sorted(set(values))
    if len(found) > 1:
        yield f"modules differ in {what}: {listed(found, 3)}"


def _of_dora(updates: list[LowRank]) -> Iterator[str]:
    weighed = [u for u in updates if u.magnitude is not None]
    if weighed and len(weighed) != len(updates):
        yield "some modules have a magnitude (DoRA), and some have none"
    if lengths := [u.module for u in weighed if u.embedding]:
        yield f"DoRA weighs the columns of an embedding in PEFT, the rows in mlx-lm: {lengths[0]}"


def refused(adapter: Adapter, reasons: list[str]) -> ConversionError:
    """That an adapter cannot be one of mlx-lm's, with all reasons and the way out."""
    return ConversionError(
        f"{adapter.origin}: mlx-lm's adapters cannot say what this one does: {'; '.join(reasons)}. "
        f"{way_out(adapter)}"
    )


def way_out(adapter: Adapter) -> str:
    """How the model with the adapter merged is written."""
    if adapter.live is not None:
        return f"{given('merge', True)} writes the model with it merged"
    return (
        f"{given('merge', 'BASE')} writes the model with it merged, BASE being the folder of the "
        "PyTorch model"
    )


def named_base(adapter: Adapter) -> str:
    """What the configuration calls the base model: a path or an id, "" where it says nothing."""
    name: Any = adapter.settings.content.get("base_model_name_or_path")
    return name if isinstance(name, str) else ""


def ask_base(adapter: Adapter, why: str) -> ConversionError:
    """That the base model has to be known."""
    return ConversionError(
        f"{adapter.origin}: {why}: pass {option('base')} the folder of the base model"
    )
