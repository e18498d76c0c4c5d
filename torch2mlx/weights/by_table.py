"""Layer types of a checkpoint as the table of architectures tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch2mlx.types import ModuleRecord, TensorSource
from torch2mlx.weights.actions import Drop, Move
from torch2mlx.weights.architectures import OPEN, PLAIN, RAW, TOKENS, Architecture
from torch2mlx.weights.catalog import lookup
from torch2mlx.weights.expected import folded, misfits
from torch2mlx.weights.folds import spelled
from torch2mlx.weights.questions import biased, telling
from torch2mlx.weights.user_rules import UNTYPED, untyped_records

Tensors = Mapping[str, TensorSource]
Shapes = Mapping[str, tuple[int, ...]]
#: The class of a module whose tensors are copied, and of one that only holds others.
CARRIED, NAMESPACE = ("(carried over)",), ("torch.nn.Module",)
_UNLOADED = Drop("transformers does not load it")


@dataclass
class Found:
    """Types by the file's own names, as far as they are known.

    `open` are keys that nobody could tell about; `ties` names that the file leaves out and those
    that have their bytes; `names` what mlx-lm calls a key where it must not have the file's name.
    """

    records: dict[str, ModuleRecord]
    open: list[str] = field(default_factory=list)
    actions: dict[str, Move | Drop] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def paths(key: str) -> Iterable[str]:
    """Paths that a key may belong to, the longest first."""
    while key:
        key = key.rpartition(".")[0]
        yield key


def by_table(known: Architecture, tensors: Tensors, content: Mapping[str, Any]) -> Found:
    """Types as the table tells them."""
    found = Found({})
    for path, record in untyped_records(tensors).items():
        keys = {name: f"{path}.{name}" if path else name for name in record.tensors}
        shapes = {name: tensors[key].shape for name, key in keys.items()}
        typed = found.records[path] = _layer(known, record, keys, shapes)
        turned = set(_turned(record, tensors)) if typed.kinds != NAMESPACE else set()
        if typed.kinds == CARRIED and turned:
            typed = found.records[path] = record
        for name, key in keys.items() if typed.kinds == (UNTYPED,) else ():
            if key in turned or not _settled(known, key, shapes[name], telling(name, shapes)):
                leave(known.drop, key, found)
    if content.get("tie_word_embeddings", known.tied):
        found.ties = dict(_ties(known, tensors))
    found.names = mlx_names(known, tensors)
    return found


def mlx_names(known: Architecture, tensors: Tensors) -> dict[str, str]:
    """Names of the base model's tensors that mlx-lm does not turn, where it turns the file's."""
    if not known.mlx:
        return {}
    base = (key for key in tensors if any(map(known.is_base, (key, *paths(key)))))
    return {key: f"{known.mlx}.{known.base(key)}" for key in base}


def _turned(record: ModuleRecord, tensors: Tensors) -> Iterator[str]:
    """Matrices that show by their bias that they are (in, out): no Linear of the table is."""
    for key, (rows, columns), bias in biased(record, tensors):
        if rows != columns == bias:
            yield key


def leave(drop: Iterable[str], key: str, found: Found) -> None:
    if any(re.search(pattern, key) for pattern in drop):
        found.actions[key] = _UNLOADED
    else:
        found.open.append(key)


def _layer(
    known: Architecture,
    record: ModuleRecord,
    keys: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> ModuleRecord:
    """A module's record with the layer that it is; UNTYPED where a tensor of it is open."""
    if not record.tensors:
        return replace(record, kinds=NAMESPACE)
    if any(OPEN in known.tokens(key) for key in keys.values()):
        return record
    for token in sorted(known.tokens(record.path) & TOKENS.keys()):
        typed = _fitting(TOKENS[token], record, shapes)
        if typed is not None:
            return typed
    settled = all(
        _settled(known, key, shapes[name], telling(name, shapes)) for name, key in keys.items()
    )
    return replace(record, kinds=CARRIED) if settled else record


def _fitting(
    layer: str, record: ModuleRecord, shapes: Mapping[str, tuple[int, ...]]
) -> ModuleRecord | None:
    """The record as this layer; None where its tensors are not the layer's."""
    spec = lookup(layer)
    assert spec is not None
    whole = folded(shapes, spelled(shapes, int("ConvTranspose" in layer)))
    known = {"from_keys": True, "groups": 1}
    weight, bias = whole.get("weight", ()), whole.get("bias", ())
    if "ConvTranspose" in layer and len(weight) > 1 and weight[1] and bias:
        known["groups"] = max(bias[0] // weight[1], 1)
    if any(misfits(spec, whole, known, False)):
        return None
    return replace(record, kinds=(layer,), options=known)


def _settled(
    known: Architecture,
    key: str,
    shape: tuple[int, ...],
    telltale: bool,
) -> bool:
    """Whether a tensor of no known layer is surely copied as it is."""
    tokens = known.tokens(key)
    if OPEN in tokens:
        return len(shape) < 2
    if RAW in tokens or PLAIN in tokens:
        return True
    return len(shape) < (2 if known.whole else 3) and not telltale


def _ties(known: Architecture, tensors: Tensors) -> Iterable[tuple[str, str]]:
    """(name left out of the file, name that has its bytes)."""
    bare = {known.base(key): key for key in tensors}
    headed = any(key.startswith(f"{known.prefix}.") for key in tensors)
    for absent, present in known.ties:
        key = bare.get(present[1:]) if present.startswith("~") else present
        if key in tensors:
            lacking = absent.removeprefix("~")
            if absent.startswith("~") and headed:
                lacking = f"{known.prefix}.{lacking}"
            yield lacking, key
