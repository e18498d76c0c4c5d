"""Deciding the layer types of a checkpoint: from a module, from rules, from config.json, or none.

Without types nothing whose layout could matter is converted: tensors of three and more
dimensions, and tensors whose names show that torch computes with them before use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch2mlx.catalog.weights.actions import Drop, Move
from torch2mlx.catalog.weights.folds import spelled
from torch2mlx.checkpoint.plan.prefixes import Fitted, fit, strip_wrappers
from torch2mlx.checkpoint.plan.questions import example, question, sensitive
from torch2mlx.checkpoint.plan.user_rules import UNTYPED, apply_rules, untyped_records
from torch2mlx.common import options
from torch2mlx.common.amounts import listed
from torch2mlx.common.collecting import paused
from torch2mlx.errors import ConversionError, MissingTypesError
from torch2mlx.types import Checkpoint, ModuleRecord, ModuleTree, TensorSource


@dataclass(frozen=True)
class Typed:
    """A checkpoint's tensors with the records of the modules that own them.

    `outside` are source keys that lie beside what is converted, with the reason; `order` has all
    sources in their order where there are such.
    """

    tensors: Mapping[str, TensorSource]
    tree: ModuleTree
    actions: Mapping[str, Move | Drop]
    known: bool  # whether the types of all modules are known
    notes: tuple[str, ...] = ()
    outside: Mapping[str, str] = field(default_factory=dict)
    order: tuple[TensorSource, ...] = ()

    @property
    def sources(self) -> tuple[TensorSource, ...]:
        """Every tensor of the checkpoint, in its order."""
        return self.order or tuple(self.tensors.values())

    def beside(self, fitted: Fitted, checkpoint: Checkpoint) -> Typed:
        """With what a prefix left outside."""
        return replace(
            self,
            notes=(*fitted.notes, *self.notes),
            outside=fitted.outside,
            order=tuple(checkpoint.tensors.values()) if fitted.outside else (),
        )


def with_folds(records: Mapping[str, ModuleRecord]) -> dict[str, ModuleRecord]:
    """Records made from keys, with the folds that their tensor names show."""
    made = {}
    for path, record in records.items():
        # torch keeps dimension 1 of these in spectral_norm
        dim = int("ConvTranspose" in record.kinds[0])
        folds = spelled(record.tensors, dim) if record.tensors else ()
        made[path] = record._replace(folds=folds) if folds else record
    return made


def _counters(records: Mapping[str, ModuleRecord]) -> dict[str, Drop]:
    """Batch counters beside running statistics, of batch norms whose type is not known."""
    counter, statistics = "num_batches_tracked", {"running_mean", "running_var"}
    reason = Drop("MLX's momentum is a constant, so nothing counts batches")
    return {
        (f"{path}." if path else "") + counter: reason
        for path, record in records.items()
        if counter in record.tensors
        and record.kinds == (UNTYPED,)
        and statistics.issubset(record.tensors)
    }


@paused()
def from_keys(checkpoint: Checkpoint, rules: Mapping[str, Any] | None) -> Typed:
    """Types from `rules` alone. Raises MissingTypesError for what stays open and matters."""
    tensors = strip_wrappers(checkpoint.tensors)
    records, actions = apply_rules(rules or {}, untyped_records(tensors), tensors)
    open_keys = sensitive(records, tensors, actions)
    if open_keys:
        text = question(checkpoint.origin, open_keys, tensors)
        raise MissingTypesError(text, tuple(open_keys))
    actions = {**_counters(records), **actions}
    notes = tuple(_copied(records, tensors, actions))
    return Typed(tensors, ModuleTree(with_folds(records)), actions, False, notes)


def _copied(
    records: Mapping[str, ModuleRecord],
    tensors: Mapping[str, TensorSource],
    actions: Mapping[str, Move | Drop],
) -> Iterator[str]:
    """A note where tensors are copied without a word from anybody."""
    open_paths = {path for path, record in records.items() if record.kinds == (UNTYPED,)}
    keys = [k for k in tensors if k.rpartition(".")[0] in open_paths and k not in actions]
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


@paused()
def from_module(
    checkpoint: Checkpoint,
    tree: ModuleTree,
    rules: Mapping[str, Any] | None,
    strict: bool = True,
    search: bool = False,
) -> Typed:
    """Types from a module's tree; `rules` may overrule single ones.

    `search`: whether the module's names may stand under a prefix (see `prefixes.fit`).
    """
    live = checkpoint.tree is tree
    fitted = Fitted(dict(checkpoint.tensors)) if live else fit(checkpoint, tree, strict, search)
    tensors = fitted.tensors
    records, actions = apply_rules(rules or {}, tree.records, tensors)
    if not live and any(f.how == "module" for r in records.values() for f in r.folds):
        raise ConversionError(
            f"{checkpoint.origin}: the module has parametrizations that only torch can compute; "
            "load the state dict into the module and convert the module itself"
        )
    if not live and not strict:
        _refuse_strangers(checkpoint, tree, tensors, actions)
    ties = {k: first for k, first in tree.ties.items() if k not in tensors and first in tensors}
    typed = Typed(tensors, replace(tree, records=records, ties=ties), actions, True)
    return typed.beside(fitted, checkpoint)
