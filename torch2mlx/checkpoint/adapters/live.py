"""An adapter that lives in a torch model: what PEFT would save of it, and the model without it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.adapters.base import Base
from torch2mlx.checkpoint.adapters.peft import Adapter, gathered, other_kind
from torch2mlx.checkpoint.adapters.settings import settings, type_of
from torch2mlx.checkpoint.source.module_tree import describe, is_module, parts, state_of
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.common.amounts import listed
from torch2mlx.common.options import given
from torch2mlx.errors import ConversionError
from torch2mlx.types import Checkpoint, ModuleTree

#: What a layer of PEFT calls the one that it stands for.
_INNER = ("base_layer", "original_module")


def _layers(module: Any) -> Iterator[tuple[str, Any]]:
    """The layers of PEFT in a module, by path."""
    kinds = _kinds()
    yield from ((path, part) for path, part in module.named_modules() if isinstance(part, kinds))


def _kinds() -> tuple[type, ...]:
    """The classes that a layer of PEFT is one of."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return BaseTunerLayer, AuxiliaryTrainingWrapper


def has_adapter(source: Any) -> bool:
    """Whether a live module is one of PEFT, or has layers of it."""
    peft = sys.modules.get("peft")
    if peft is None or not is_module(source):
        return False
    if isinstance(source, peft.PeftModel):
        return True
    kinds = _kinds()
    return any(isinstance(part, kinds) for part in parts(source))


def live_adapter(source: Any) -> Adapter:
    """The active adapter of a live model of PEFT.

    Raises ConversionError for a model that is none, has several, or has it merged already.
    """
    import peft

    name = type(source).__name__
    if not isinstance(source, peft.PeftModel):
        first = next(path for path, _ in _layers(source))
        raise ConversionError(
            f"{name} has layers of PEFT in it ({first}): pass the PeftModel itself, or merge the "
            "adapter first (merge_and_unload)"
        )
    active = source.active_adapters
    if len(active) != 1:
        raise ConversionError(
            f"{name} has {len(active)} active adapters ({listed(active, 3)}): choose one with "
            "set_adapter"
        )
    chosen = active[0]
    content = json.loads(json.dumps(source.peft_config[chosen].to_dict(), default=_plain))
    kind = type_of(name, content)
    if kind != "LORA":
        raise ConversionError(other_kind(name, kind))
    _check_state(source, name)
    state = peft.get_peft_model_state_dict(source, adapter_name=chosen, save_embedding_layers=False)
    found = settings(f"the configuration of {name}", content)
    read = gathered(name, found, open_checkpoint(state).tensors)
    scaled = {p: part.scaling[chosen] for p, part in _layers(source) if _scales(part, chosen)}
    updates = {
        module: replace(update, scale=float(scaled[f"base_model.model.{module}"]))
        for module, update in read.modules.items()
    }
    return replace(read, modules=updates, live=source)


def _plain(value: Any) -> Any:
    """A value of a configuration as JSON has it."""
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)


def _scales(part: Any, adapter: str) -> bool:
    return adapter in (getattr(part, "scaling", None) or {})


def _check_state(source: Any, name: str) -> None:
    parts = [part for _, part in _layers(source)]
    if any(getattr(part, "merged", False) for part in parts):
        raise ConversionError(
            f"{name} has its adapter merged into the weights: unmerge_adapter() takes it out, and "
            "merge_and_unload() leaves a model without layers of PEFT"
        )
    if any(getattr(part, "disable_adapters", False) for part in parts):
        raise ConversionError(f"{name} has its adapter disabled: enable_adapter_layers() first")


def live_base(adapter: Adapter) -> Base | None:
    """What the model tells of itself; None for one that has no configuration."""
    model = adapter.live.get_base_model()
    content = _content(model)
    return Base(Path(type(model).__name__), content, {}, False) if content else None


def check_vocabulary(adapter: Adapter, base: Base) -> None:
    """Raises ConversionError for a live model whose vocabulary is not that of its base any more."""
    own = getattr(getattr(adapter.live.get_base_model(), "config", None), "vocab_size", None)
    told = base.content.get("vocab_size")
    if own is not None and told is not None and own != told:
        raise ConversionError(
            f"{adapter.origin}: has a vocabulary of {own}, and {base.folder} one of {told}: the "
            "embedding was resized, which is no part of an adapter; "
            f"{given('merge', True)} writes the model with it merged"
        )


def _content(model: Any) -> Mapping[str, Any]:
    """A live model's configuration, with what it is and whether its embedding is tied."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "to_dict"):
        return {}
    told = dict(config.to_dict())
    told["architectures"] = [type(model).__name__]
    ends = [getattr(model, f"get_{end}_embeddings", lambda: None)() for end in ("input", "output")]
    weights = [getattr(end, "weight", None) for end in ends]
    if weights[0] is not None:
        told["tie_word_embeddings"] = weights[0] is weights[1]
    return told


def live_model(adapter: Adapter) -> tuple[Checkpoint, Mapping[str, Any]]:
    """(the model without layers of PEFT, as they were found; its configuration)."""
    model = adapter.live.get_base_model()
    outer = {path for path, _ in _layers(model)}
    state = state_of(model)
    tree = describe(model, state)
    named = {key: _bare(key, outer) for key in state}
    bare = {name: state[key] for key, name in named.items() if name is not None}
    opened = open_checkpoint(bare)
    origin = type(model).__name__
    return replace(opened, tree=_tree(tree, outer), origin=origin), _content(model)


def _bare(name: str, outer: set[str]) -> str | None:
    """A name as it was before layers of PEFT stood for others; None for what is theirs alone."""
    parts: list[str] = []
    seen: list[str] = []
    for part in name.split("."):
        if ".".join(seen) in outer:
            if part not in _INNER:
                return None
        else:
            parts.append(part)
        seen.append(part)
    return ".".join(parts)


def _tree(tree: ModuleTree, outer: set[str]) -> ModuleTree:
    """The tree of a model without layers of PEFT."""
    records, places = {}, {}
    for path, record in tree.records.items():
        bare = None if path in outer else _bare(path, outer)
        if bare is not None:
            records[bare] = record._replace(path=bare)
            places[bare] = path
    shapes = {bare: v for k, v in tree.shapes.items() if (bare := _bare(k, outer)) is not None}
    ties = {
        a: b
        for k, v in tree.ties.items()
        if (a := _bare(k, outer)) is not None and (b := _bare(v, outer)) is not None
    }
    left = tuple(b for k in tree.non_persistent if (b := _bare(k, outer)) is not None)
    compute = tree.compute
    if compute is None:
        return ModuleTree(records, shapes, ties, left)
    return ModuleTree(records, shapes, ties, left, lambda path, name: compute(places[path], name))
