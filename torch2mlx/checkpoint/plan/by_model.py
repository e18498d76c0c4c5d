"""Layer types of a checkpoint as the built model of transformers tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch2mlx.catalog.layers.lookup import lookup
from torch2mlx.checkpoint.plan.by_table import CARRIED, NAMESPACE, Found, Tensors, leave
from torch2mlx.checkpoint.plan.owners import Resolver
from torch2mlx.checkpoint.plan.questions import telling
from torch2mlx.checkpoint.plan.user_rules import UNTYPED, untyped_records
from torch2mlx.checkpoint.source import config_model
from torch2mlx.checkpoint.source.module_tree import describe
from torch2mlx.common.amounts import listed
from torch2mlx.errors import StateDictMismatchError
from torch2mlx.types import Checkpoint, ModuleRecord, ModuleTree

_TRANSPOSED = "transformers.pytorch_utils.Conv1D"
_CONVOLUTIONS = {f"torch.nn.Conv{n}d" for n in (1, 2, 3)}
_CUTTING = {"Chunk", "Concatenate", "Split"}


def by_model(checkpoint: Checkpoint, model: Any, tensors: Tensors) -> Found:
    """Types as the built model tells them, by where transformers loads each tensor."""
    tree = describe(model)
    places = config_model.module_keys(model, list(tensors))
    owners = {
        key: owner.record
        for owner in Resolver(tree.records).owners(tree.shapes)
        for key in owner.keys.values()
    }
    _check_shapes(checkpoint, tree, tensors, places)
    transposing = any(_TRANSPOSED in record.kinds for record in owners.values())
    drop = tuple(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    found = Found({})
    for path, record in untyped_records(tensors).items():
        keys = {name: f"{path}.{name}" if path else name for name in record.tensors}
        shapes = {name: tensors[key].shape for name, key in keys.items()}
        kinds, before = set(), len(found.open)
        for name, key in keys.items():
            owner, step = owners.get(places[key][0]), places[key][1]
            layer = _loaded(owner, step, len(shapes[name]))
            if owner is None and len(shapes[name]) < (2 if transposing else 3):
                layer = None if telling(name, shapes) else CARRIED
            kinds.add(layer)
            if layer is None:
                leave(drop, key, found)
        typed = _of_model(record, kinds - {None}, owners, places, keys)
        opened = len(found.open) > before
        found.records[path] = record._replace(kinds=(UNTYPED,)) if opened else typed
    found.ties = dict(_ties_of_model(tree, places))
    return found


def _of_model(
    record: ModuleRecord,
    kinds: set[Any],
    owners: Mapping[str, ModuleRecord],
    places: Mapping[str, tuple[str, Any]],
    keys: Mapping[str, str],
) -> ModuleRecord:
    """A module of the file as the layer of the model that takes its tensors."""
    if not record.tensors:
        return record._replace(kinds=NAMESPACE)
    layers = [kind for kind in kinds if kind != CARRIED]
    if len(layers) != 1:
        return record._replace(kinds=(UNTYPED,) if len(layers) else CARRIED)
    owner = next(owners[places[k][0]] for k in keys.values() if places[k][0] in owners)
    known = {**owner.options, "from_keys": True}
    return record._replace(kinds=layers[0], options=known)


def _loaded(owner: ModuleRecord | None, step: Any, rank: int) -> tuple[str, ...] | None:
    """The class of layer that a tensor follows, CARRIED for a copy; None when it stays open."""
    if owner is None:
        return None
    spec = lookup(owner.kinds)
    if any(fold.how == "module" for fold in owner.folds):
        return None
    plain = spec is None or not spec.weights
    if step is None:
        return CARRIED if plain else owner.kinds
    operations = {type(operation).__name__ for operation in step.operations}
    if "Conv3dToLinear" in operations:
        return ("torch.nn.Conv3d",) if rank == 5 else CARRIED
    if plain:
        return None if rank == 2 and "Transpose" in operations else CARRIED
    alike = spec is not None and spec.torch in _CONVOLUTIONS and operations <= _CUTTING
    return owner.kinds if alike else None


def _check_shapes(
    checkpoint: Checkpoint,
    tree: ModuleTree,
    tensors: Tensors,
    places: Mapping[str, tuple[str, Any]],
) -> None:
    wrong = [
        f"{key} is {list(tensors[key].shape)}, the model has {list(tree.shapes[place])}"
        for key, (place, step) in places.items()
        if step is None and place in tree.shapes and tensors[key].shape != tree.shapes[place]
    ]
    if wrong:
        raise StateDictMismatchError(
            f"{checkpoint.origin} and its config.json do not fit: shapes differ: {listed(wrong)}"
        )


def _ties_of_model(
    tree: ModuleTree, places: Mapping[str, tuple[str, Any]]
) -> Iterable[tuple[str, str]]:
    """(name left out of the file, name that has its bytes), where names are only prefixed."""
    by_place = {place: key for key, (place, step) in places.items() if step is None}
    for absent, present in tree.ties.items():
        key = by_place.get(present)
        if key is None:
            absent, present, key = present, absent, by_place.get(absent)
        if key is not None and present.endswith(key):
            yield absent.removeprefix(present.removesuffix(key)), key
