"""Deciding the layer types of a checkpoint: from a module, from rules, from config.json, or none.

Without types nothing whose layout could matter is converted: tensors of three and more
dimensions, and tensors whose names show that torch computes with them before use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch2mlx import options
from torch2mlx.errors import ConversionError, MissingTypesError, StateDictMismatchError
from torch2mlx.types import Checkpoint, ModuleRecord, ModuleTree, TensorSource
from torch2mlx.weights.actions import Drop, Move
from torch2mlx.weights.folds import spelled
from torch2mlx.weights.questions import example, listed, question, sensitive
from torch2mlx.weights.user_rules import UNTYPED, apply_rules, untyped_records

_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Typed:
    """A checkpoint's tensors with the records of the modules that own them."""

    tensors: Mapping[str, TensorSource]
    tree: ModuleTree
    actions: Mapping[str, Move | Drop]
    known: bool  # whether the types of all modules are known
    notes: tuple[str, ...] = ()


def strip_wrappers(tensors: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Takes `module.` and `_orig_mod.` off keys that all begin so; returns what it took off."""
    taken, stripped = "", dict(tensors)
    while stripped:
        first = next((p for p in _WRAPPERS if all(k.startswith(p) for k in stripped)), None)
        if first is None:
            break
        taken += first
        stripped = {key[len(first) :]: value for key, value in stripped.items()}
    return taken, stripped


def fit(checkpoint: Checkpoint, tree: ModuleTree, strict: bool) -> dict[str, TensorSource]:
    """The checkpoint's tensors under the module's own keys.

    Prefixes of wrappers may be on either side. Raises StateDictMismatchError when keys (if
    `strict`) or shapes do not fit.
    """
    tensors = dict(checkpoint.tensors)
    if tree.shapes and not tensors.keys() & tree.shapes.keys():
        tensors = strip_wrappers(tensors)[1]
        prefix = strip_wrappers(tree.shapes)[0]
        tensors = {prefix + key: value for key, value in tensors.items()}
    wrong = [
        f"{key} is {list(tensors[key].shape)}, the module has {list(shape)}"
        for key, shape in tree.shapes.items()
        if key in tensors and tensors[key].shape != shape
    ]
    present = {tree.ties.get(key, key) for key in tensors}
    missing = [
        key
        for key in tree.shapes
        if tree.ties.get(key, key) not in present and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in tensors if key not in tree.shapes]
    problems = [f"shapes differ: {listed(wrong)}"] if wrong else []
    if strict and missing:
        problems.append(f"missing: {listed(missing)}")
    if strict and unexpected:
        problems.append(f"unexpected: {listed(unexpected)}")
    if problems:
        raise StateDictMismatchError(
            f"{checkpoint.origin} and the module do not fit: {'; '.join(problems)}"
            + ("" if wrong else f"; pass the right module, or {options.given('strict', False)}")
        )
    return tensors


def _with_folds(records: Mapping[str, ModuleRecord]) -> dict[str, ModuleRecord]:
    """Records made from keys, with the folds that their tensor names show."""
    transposed = "ConvTranspose"  # torch keeps dimension 1 of these in spectral_norm
    return {
        path: replace(record, folds=spelled(record.tensors, int(transposed in record.kinds[0])))
        for path, record in records.items()
    }


def _counters(records: Mapping[str, ModuleRecord]) -> dict[str, Drop]:
    """Batch counters beside running statistics, of batch norms whose type is not known."""
    counter = {"running_mean", "running_var", "num_batches_tracked"}
    reason = Drop("MLX's momentum is a constant, so nothing counts batches")
    return {
        (f"{path}." if path else "") + "num_batches_tracked": reason
        for path, record in records.items()
        if record.kinds == (UNTYPED,) and counter <= set(record.tensors)
    }


def from_keys(checkpoint: Checkpoint, rules: Mapping[str, Any] | None) -> Typed:
    """Types from `rules` alone. Raises MissingTypesError for what stays open and matters."""
    tensors = strip_wrappers(checkpoint.tensors)[1]
    records, actions = apply_rules(rules or {}, untyped_records(tensors), tensors)
    open_keys = sensitive(records, tensors, actions)
    if open_keys:
        text = question(checkpoint.origin, open_keys, tensors)
        raise MissingTypesError(text, tuple(open_keys))
    actions = {**_counters(records), **actions}
    notes = tuple(_copied(records, tensors, actions))
    return Typed(tensors, ModuleTree(_with_folds(records)), actions, False, notes)


def _copied(
    records: Mapping[str, ModuleRecord],
    tensors: Mapping[str, TensorSource],
    actions: Mapping[str, Move | Drop],
) -> Iterator[str]:
    """A note where tensors are copied without a word from anybody."""
    owned = ((p, n) for p, r in records.items() if r.kinds == (UNTYPED,) for n in r.tensors)
    keys = [f"{path}.{name}" if path else name for path, name in owned]
    keys = [key for key in keys if key not in actions]
    matrices = [key for key in keys if len(tensors[key].shape) == 2]
    if keys:
        yield "layer types unknown: tensors were copied as they are" + (
            f"; right for matrices of Linear and Embedding: {listed(matrices)}" if matrices else ""
        )


def _refuse_strangers(
    checkpoint: Checkpoint,
    tree: ModuleTree,
    tensors: Mapping[str, TensorSource],
    actions: Mapping[str, Move | Drop],
) -> None:
    """Raises MissingTypesError for tensors of modules that the given one does not have."""
    others = {
        key: source
        for key, source in tensors.items()
        if key not in tree.shapes and key.rpartition(".")[0] not in tree.records
    }
    found = sensitive(untyped_records(others), others, actions)
    if found:
        raise MissingTypesError(
            f"{checkpoint.origin}: the module given has no layers for {listed(found)}, whose "
            "layout depends on them; pass the right module, or rules for these: "
            f"{options.rules(example(found, others))}",
            tuple(found),
        )


def from_module(
    checkpoint: Checkpoint, tree: ModuleTree, rules: Mapping[str, Any] | None, strict: bool = True
) -> Typed:
    """Types from a module's tree; `rules` may overrule single ones."""
    live = checkpoint.tree is tree
    tensors = dict(checkpoint.tensors) if live else fit(checkpoint, tree, strict)
    records, actions = apply_rules(rules or {}, tree.records, tensors)
    if not live and any(f.how == "module" for r in records.values() for f in r.folds):
        raise ConversionError(
            f"{checkpoint.origin}: the module has parametrizations that only torch can compute; "
            "load the state dict into the module and convert the module itself"
        )
    if not live and not strict:
        _refuse_strangers(checkpoint, tree, tensors, actions)
    ties = {k: first for k, first in tree.ties.items() if k not in tensors and first in tensors}
    return Typed(tensors, replace(tree, records=records, ties=ties), actions, True)
