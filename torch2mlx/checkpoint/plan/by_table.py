"""Layer types of a checkpoint as the table of architectures tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.catalog.layers.lookup import lookup
from torch2mlx.catalog.weights.actions import Drop, Move
from torch2mlx.catalog.weights.folds import spelled
from torch2mlx.checkpoint.plan.architectures import OPEN, PLAIN, RAW, TOKENS, Architecture, starred
from torch2mlx.checkpoint.plan.expected import folded, misfits
from torch2mlx.checkpoint.plan.questions import biased, telling
from torch2mlx.checkpoint.plan.user_rules import UNTYPED, untyped_records
from torch2mlx.types import ModuleRecord, TensorSource

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


@dataclass(frozen=True)
class _Verdict:
    """What a module is, and which of its tensors stay open."""

    kinds: tuple[str, ...]
    options: Mapping[str, Any]
    open: tuple[str, ...] = ()


def by_table(known: Architecture, tensors: Tensors, content: Mapping[str, Any]) -> Found:
    """Types as the table tells them; alike modules of a model's layers are looked up once."""
    found = Found({})
    seen: dict[Any, _Verdict] = {}
    for path, record in untyped_records(tensors).items():
        head = f"{path}." if path else ""
        shapes = {name: tensors[head + name].shape for name in record.tensors}
        alike = (starred(path), *shapes.items()) if shapes else ()
        if alike not in seen:
            seen[alike] = _verdict(known, record, tensors, shapes)
        verdict = seen[alike]
        found.records[path] = ModuleRecord(
            path, verdict.kinds, verdict.options, record.children, record.tensors
        )
        for name in verdict.open:
            leave(known.drop, head + name, found)
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


def _verdict(
    known: Architecture, record: ModuleRecord, tensors: Tensors, shapes: Shapes
) -> _Verdict:
    if not shapes:
        return _Verdict(NAMESPACE, record.options)
    keys = {name: f"{record.path}.{name}" if record.path else name for name in shapes}
    told = {name: known.tokens(key) for name, key in keys.items()}
    if not any(OPEN in tokens for tokens in told.values()):
        for token in sorted(known.tokens(record.path) & TOKENS.keys()):
            verdict = _fitting(TOKENS[token], shapes)
            if verdict is not None:
                return verdict
    turned = set(_turned(record, tensors))
    unsettled = tuple(
        name
        for name, shape in shapes.items()
        if keys[name] in turned
        or not _settled(told[name], len(shape), known.whole, telling(name, shapes))
    )
    return _Verdict((UNTYPED,) if unsettled else CARRIED, record.options, unsettled)


def _fitting(layer: str, shapes: Shapes) -> _Verdict | None:
    """A module as this layer; None where its tensors are not the layer's."""
    spec = lookup(layer)
    assert spec is not None
    whole = folded(shapes, spelled(shapes, int("ConvTranspose" in layer)))
    known = {"from_keys": True, "groups": 1}
    weight, bias = whole.get("weight", ()), whole.get("bias", ())
    if "ConvTranspose" in layer and len(weight) > 1 and weight[1] and bias:
        known["groups"] = max(bias[0] // weight[1], 1)
    return None if any(misfits(spec, whole, known, False)) else _Verdict((layer,), known)


def _settled(tokens: frozenset[str], rank: int, whole: bool, telltale: bool) -> bool:
    """Whether a tensor of no known layer is surely copied as it is."""
    if OPEN in tokens:
        return rank < 2
    if RAW in tokens or PLAIN in tokens:
        return True
    return rank < (2 if whole else 3) and not telltale


def _ties(known: Architecture, tensors: Tensors) -> Iterable[tuple[str, str]]:
    """(name left out of the file, name that has its bytes)."""
    bare = {known.base(key): key for key in tensors}
    headed = any(key.startswith(f"{known.prefix}.") for key in tensors)
    for absent, present in known.ties:
        key = bare.get(present[1:]) if present.startswith("~") else present
        if key is not None and key in tensors:
            lacking = absent.removeprefix("~")
            if absent.startswith("~") and headed:
                lacking = f"{known.prefix}.{lacking}"
            yield lacking, key
