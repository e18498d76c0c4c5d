"""Layer types of a checkpoint whose config.json names its architecture.

The table of architectures answers where it covers every tensor whose layout could matter;
otherwise the model is built, and transformers says where it loads each tensor. Either way the
names of the file stay: programs that read such checkpoints know them by these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch2mlx.catalog.weights.actions import Drop, Move
from torch2mlx.checkpoint.plan import architectures
from torch2mlx.checkpoint.plan.architectures import Architecture
from torch2mlx.checkpoint.plan.by_model import by_model
from torch2mlx.checkpoint.plan.by_table import NAMESPACE, Found, Tensors, by_table, mlx_names, paths
from torch2mlx.checkpoint.plan.prefixes import strip_wrappers
from torch2mlx.checkpoint.plan.typing import Typed, with_folds
from torch2mlx.checkpoint.plan.user_rules import UNTYPED, apply_rules, untyped_records
from torch2mlx.checkpoint.source import config_model
from torch2mlx.common import options
from torch2mlx.common.amounts import listed
from torch2mlx.common.optional import installed
from torch2mlx.errors import ConversionError, MissingTypesError
from torch2mlx.types import Checkpoint, ModuleRecord, ModuleTree


def from_config(
    checkpoint: Checkpoint, config: Path, rules: Mapping[str, Any] | None, folder: bool
) -> Typed | None:
    """Types from the architecture that a config.json names; None where it names none.

    `rules` may overrule single ones. `folder`: whether the result is a folder, where tensors get
    the names under which mlx-lm does not turn them a second time. Raises MissingTypesError for
    what stays open and matters, ConversionError and CheckpointError for an odd configuration.
    """
    content = config_model.read(config)
    if rules is not None and not _readable(config, content):
        return None
    name = config_model.architecture(config, content)
    tensors = strip_wrappers(checkpoint.tensors)
    if name is None:
        return _of_type(tensors, rules, content, folder)
    known = architectures.find(name)
    reasons = []
    if known is None:
        reasons.append(f"{name} is not among the architectures that torch2mlx knows")
    elif other := _other_parts(known, content):
        reasons.append(f"{name} with {other} is not in torch2mlx's table")
    else:
        found = by_table(known, tensors, content)
        typed = _finish(found, tensors, rules, content, folder)
        if isinstance(typed, Typed):
            return typed
        reasons.append(f"{name} has no such tensors in torch2mlx's table: {listed(typed)}")
    built = config_model.build(config, content, name, config_model.Budget.of(len(tensors)))
    if built is not None:
        found = by_model(checkpoint, built, tensors)
        found.names = mlx_names(known, tensors) if known else {}
        typed = _finish(found, tensors, rules, content, folder)
        if isinstance(typed, Typed):
            return typed
        reasons.append(f"the {name} of transformers has no place for them: {listed(typed)}")
    elif rules is not None:
        return None
    raise _missing(checkpoint, config, name, reasons, list(tensors))


def _of_type(
    tensors: Tensors, rules: Mapping[str, Any] | None, content: Mapping[str, Any], folder: bool
) -> Typed | None:
    """Types from a model type alone, where all its architectures that fit the file say the same."""
    kind = content.get("model_type")
    fitting: dict[str, Typed] = {}
    for name in architectures.of_type(kind) if isinstance(kind, str) else ():
        known = architectures.find(name)
        if known is not None and not _other_parts(known, content):
            typed = _finish(by_table(known, tensors, content), tensors, rules, content, folder)
            if isinstance(typed, Typed):
                fitting[name] = typed
    if not fitting:
        return None
    first, *others = fitting.values()
    if any(
        other.tree.records != first.tree.records
        or other.actions != first.actions
        or list(other.tensors) != list(first.tensors)
        for other in others
    ):
        return None
    # a tied name that the file leaves out is there in some of these classes only
    ties = first.tree.ties if all(t.tree.ties == first.tree.ties for t in others) else {}
    note = (
        f"config.json names no architecture: layer types are those of {kind}, on which "
        f"{listed(fitting)} agree"
    )
    return replace(first, tree=replace(first.tree, ties=ties), notes=(note, *first.notes))


def _readable(config: Path, content: Mapping[str, Any]) -> bool:
    try:
        config_model.architecture(config, content)
    except ConversionError:
        return False
    return True


def _missing(
    checkpoint: Checkpoint, config: Path, name: str, reasons: list[str], keys: list[str]
) -> MissingTypesError:
    lacking = [n for n in ("torch", "transformers") if not installed(n)]
    if lacking:
        reasons.append(
            f"{' and '.join(lacking)}, which could build it, "
            f"{'are' if len(lacking) > 1 else 'is'} not installed (pip install "
            f"{' '.join(lacking)})"
        )
    elif config_model.model_class(name) is None:
        reasons.append("the installed transformers has no model class of that name")
    return MissingTypesError(
        f"{checkpoint.origin}: {config.name} does not tell the layer types: {'; '.join(reasons)}. "
        f"Pass {options.option('module')} (a model on torch's meta device is enough), or "
        f"{options.option('rules')} for what is open",
        tuple(keys),
    )


def _other_parts(known: Architecture, content: Mapping[str, Any]) -> str:
    """What of a configuration the table was not made with: the model types within it."""
    for path, kind in config_model.submodels(content):
        if kind not in known.sub.get(path, ()):
            return f"{path} of type {str(kind)[:40]!r}"
    return ""


def _finish(
    found: Found,
    tensors: Tensors,
    rules: Mapping[str, Any] | None,
    content: Mapping[str, Any],
    folder: bool,
) -> Typed | list[str]:
    """The types with the caller's rules on top, or the keys that are still open."""
    records, actions = found.records, found.actions
    if rules is not None:
        records, given = apply_rules(rules, records, tensors)
        actions = {**actions, **given}
    still = [key for key in found.open if key not in actions and _untyped(records, key)]
    if still:
        return still
    notes = []
    method = content.get("quantization_config")
    if isinstance(method, dict):
        kind = str(method.get("quant_method", "unknown"))[:40]
        notes.append(f"config.json says quantized ({kind}): packed tensors are copied as they are")
    if folder and found.names:
        return Typed(*_renamed(found, records, tensors, actions), True, tuple(notes))
    ties = {k: v for k, v in found.ties.items() if k not in tensors and v in tensors}
    return Typed(tensors, ModuleTree(with_folds(records), ties=ties), actions, True, tuple(notes))


def _untyped(records: Mapping[str, ModuleRecord], key: str) -> bool:
    path = next(path for path in paths(key) if path in records)
    return records[path].kinds == (UNTYPED,)


def _renamed(
    found: Found,
    records: Mapping[str, ModuleRecord],
    tensors: Tensors,
    actions: Mapping[str, Move | Drop],
) -> tuple[Tensors, ModuleTree, Mapping[str, Move | Drop]]:
    """All of it under the names of mlx-lm."""

    def name(key: str) -> str:
        return found.names.get(key) or key

    moved = {name(key): source for key, source in tensors.items()}
    typed = untyped_records(moved)
    for path, record in records.items():
        if record.tensors:
            key = f"{path}.{record.tensors[0]}" if path else record.tensors[0]
            new = next(p for p in paths(name(key)) if p in typed and typed[p].tensors)
            typed[new] = typed[new]._replace(kinds=record.kinds, options=record.options)
    records = {
        p: r if r.tensors or r.kinds != (UNTYPED,) else r._replace(kinds=NAMESPACE)
        for p, r in typed.items()
    }
    ties = {k: name(v) for k, v in found.ties.items() if k not in tensors and v in tensors}
    tree = ModuleTree(with_folds(records), ties=ties)
    return moved, tree, {name(key): action for key, action in actions.items()}
