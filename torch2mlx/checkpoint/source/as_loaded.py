"""A checkpoint as transformers loads it into a model of its own: under the model's names, with
tensors joined and cut as its table of conversions says.

Checkpoints on the hub have one matrix for each expert, where models of transformers 5 have one
array for all. Which, and how, is asked of the table that `from_pretrained` goes by; what it says
is done by its own operations, for one of the model's tensors at a time, when that is written.
"""

from __future__ import annotations

import ctypes
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.source.config_model import prefixed
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.common.amounts import counted, listed
from torch2mlx.errors import KeyCollisionError, StateDictMismatchError
from torch2mlx.types import Borrowed, Checkpoint, Deferred, TensorSource, Unreadable

#: Operations of the table that move items and change none, so that a dtype can be kept.
_MOVES = {"MergeModulelist", "SplitModulelist", "Concatenate", "Chunk", "Split", "Transpose"}
_MOVES |= {"Interleave", "PermuteForRope", "Conv3dToLinear", "LinearToConv3d"}
_MOVES |= {"ErnieFuseAndSplitTextVisionExperts", "ErnieSplitAndDecoupleTextVisionExperts"}


@dataclass(frozen=True)
class _Joined:
    """Tensors of a checkpoint that one entry of the table makes tensors of a model from.

    `name` is that of the first of these, before which the checkpoint has a `prefix`; `parts` are
    sources by the pattern that they match.
    """

    name: str
    prefix: str
    step: Any
    parts: dict[str, list[TensorSource]]

    @property
    def keys(self) -> list[str]:
        return [source.key for sources in self.parts.values() for source in sources]


def as_loaded(checkpoint: Checkpoint, model: Any) -> Checkpoint:
    """The tensors that `from_pretrained` gives a model, by their names in it; the checkpoint as it
    is, where the model is none of transformers, or nothing is called or held otherwise. A prefix
    that the model has not stays.

    Tensors that are joined or cut are `Deferred`. What the model's class says it does not load is
    left out, with a note. Raises StateDictMismatchError where the tensors do not fit together, and
    for operations that are not known to only move items.
    """
    table = None if checkpoint.tree is not None else table_of(model)
    if table is None or _fits(checkpoint, model):
        return checkpoint
    tensors, joined, left = _sorted(checkpoint, model, table)
    for one in joined:
        for name, source in _sources(one, model, checkpoint.origin):
            _put(tensors, name, source, checkpoint.origin)
    same = all(checkpoint.tensors.get(key) is source for key, source in tensors.items())
    if same and not left:
        return checkpoint
    notes = (*checkpoint.notes, *_notes(joined, left))
    if joined:  # all by the model's names, also on the way back
        tensors = {name: renamed(source, name) for name, source in tensors.items()}
    return replace(checkpoint, tensors=tensors, notes=notes)


def table_of(model: Any) -> tuple[list[Any], list[Any]] | None:
    """The renamings and the conversions of a model of transformers; None for another one, and where
    transformers has no such table."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(model, transformers.PreTrainedModel):
        return None
    try:
        from transformers import conversion_mapping as mapping
        from transformers import core_model_loading as loading

        steps = mapping.get_model_conversion_mapping(model)
    except (ImportError, AttributeError):
        return None
    renamings = [step for step in steps if isinstance(step, loading.WeightRenaming)]
    return renamings, [step for step in steps if isinstance(step, loading.WeightConverter)]


def _fits(checkpoint: Checkpoint, model: Any) -> bool:
    """Whether all tensors are the model's as they are."""
    shapes = {name: tuple(held.shape) for name, held in model.state_dict(keep_vars=True).items()}
    return all(shapes.get(key) == source.shape for key, source in checkpoint.tensors.items())


def _sorted(
    checkpoint: Checkpoint, model: Any, table: tuple[list[Any], list[Any]]
) -> tuple[dict[str, TensorSource], list[_Joined], list[str]]:
    """Tensors that are renamed at most, by their names in the model; those that are joined or cut;
    keys that are not loaded."""
    from transformers import core_model_loading as loading

    renamings, converters = table
    steps = {pattern: step for step in converters for pattern in step.source_patterns}
    state, base = model.state_dict(keep_vars=True), f"{model.base_model_prefix}."
    unloaded, left = _unloaded(model), []
    tensors: dict[str, TensorSource] = {}
    joined: dict[str, _Joined] = {}
    for key in sorted(checkpoint.tensors, key=loading.dot_natural_key):
        source = checkpoint.tensors[key]
        name, pattern = loading.rename_source_key(key, renamings, converters)
        place = prefixed(name, base, state)
        prefix = base if place != name and name == base + place else ""
        if place not in state and key not in state and unloaded(name):
            left.append(key)
        elif pattern is None or place not in state or _is_own(name, source, state):
            _put(tensors, prefix + place if place in state else key, source, checkpoint.origin)
        else:
            one = joined.setdefault(place, _Joined(place, prefix, steps[pattern], {}))
            one.parts.setdefault(pattern, []).append(source)
    return tensors, list(joined.values()), left


def _is_own(name: str, source: TensorSource, state: Mapping[str, Any]) -> bool:
    """Whether a tensor is the model's as it is, though it is called as what others become."""
    held = state.get(name)
    return name == source.key and held is not None and tuple(held.shape) == source.shape


def _put(tensors: dict[str, TensorSource], name: str, source: TensorSource, origin: str) -> None:
    """Raises KeyCollisionError where the name is taken."""
    if name in tensors:
        raise KeyCollisionError(
            f"{origin}: transformers loads {tensors[name].key!r} and {source.key!r} as {name!r}"
        )
    tensors[name] = source


def _unloaded(model: Any) -> Callable[[str], bool]:
    """Whether a name is one of those that a model's class does not load, and misses nothing."""
    patterns = list(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    buffers = [name for name, _ in model.named_buffers()]
    for moved in ("rotary_emb.inv_freq", "position_ids"):  # of each layer once, now not stored
        if any(buffer.endswith(moved) for buffer in buffers):
            patterns.append(rf"(^|\.){re.escape(moved)}$")
    return lambda name: any(re.search(pattern, name) for pattern in patterns)


def _sources(one: _Joined, model: Any, origin: str) -> Iterator[tuple[str, TensorSource]]:
    """The tensors that an entry of the table makes, by their names in the model."""
    import torch

    kinds = [type(operation).__name__ for operation in one.step.operations]
    odd = [kind for kind in kinds if kind not in _MOVES]
    if odd:
        raise StateDictMismatchError(
            f"{origin}: transformers makes {one.name!r} from {listed(one.keys)} by "
            f"{listed(odd)}, which is not known here: load the model with from_pretrained, and "
            "take its own weights"
        )
    _check_numbers(one, origin)

    def shaped(source: TensorSource) -> Any:
        return torch.empty(source.shape, dtype=getattr(torch, source.dtype), device="meta")

    try:
        made = _run(one, model, shaped)
    except Exception as error:  # transformers and torch raise what they like
        raise StateDictMismatchError(
            f"{origin}: transformers cannot make {one.name!r} from {listed(one.keys)}: {error}"
        ) from error
    for name, like in made.items():
        dtype = str(like.dtype).removeprefix("torch.")
        make = partial(_made, one, model, name)
        yield one.prefix + name, Deferred(name, tuple(like.shape), dtype, make)


def _check_numbers(one: _Joined, origin: str) -> None:
    """Raises StateDictMismatchError where tensors that become one are not numbered from 0 on: those
    behind a gap would take the place of others."""
    for pattern, sources in one.parts.items():
        numbers = [[p for p in source.key.split(".") if p.isdigit()] for source in sources]
        varying = [column for column in zip(*numbers, strict=False) if len(set(column)) > 1]
        for column in varying:
            lacking = sorted(set(range(len(sources))) - set(map(int, column)))
            if lacking:
                raise StateDictMismatchError(
                    f"{origin}: of {pattern!r}, which become {one.name!r}, those of "
                    f"{listed(list(map(str, lacking)))} are missing"
                )


def _run(one: _Joined, model: Any, read: Callable[[TensorSource], Any]) -> dict[str, Any]:
    """What the operations of the table make of tensors, by their names in the model."""
    step = deepcopy(one.step)
    for pattern, sources in one.parts.items():
        for source in sources:
            step.add_tensor(one.name, source.key, pattern, partial(read, source))
    made = step.convert(one.name, model=model, config=model.config)
    return {name: v[0] if isinstance(v, list) else v for name, v in made.items()}


def _made(one: _Joined, model: Any, name: str) -> _core.Tensor:
    """One of the tensors that an entry of the table makes."""
    return borrow(name, _run(one, model, _tensor)[name].contiguous()).load()


def _tensor(source: TensorSource) -> Any:
    """A tensor as torch's, which borrows the memory of one that lies dense in it."""
    import torch

    found = source.load()
    dtype = getattr(torch, found.dtype)
    if 0 in found.shape:
        return torch.empty(found.shape, dtype=dtype)
    steps: list[int] = []
    item = found.nbytes // math.prod(found.shape)
    for size in reversed(found.shape):
        steps.insert(0, item)
        item *= size
    found = found if tuple(steps) == found.strides else found.dense()
    # torch warns of memory that is not to be written, which this is not: nothing here writes
    memory = (ctypes.c_uint8 * found.nbytes).from_address(found.address)
    setattr(memory, "owner", found)  # noqa: B010 (an array of ctypes keeps what it is given)
    return torch.frombuffer(memory, dtype=dtype).reshape(found.shape)


def renamed(source: TensorSource, key: str) -> TensorSource:
    """A tensor by another name."""
    if isinstance(source, Borrowed):
        return source._replace(key=key)
    assert isinstance(source, (Deferred, Unreadable))
    return replace(source, key=key)


def _notes(joined: Sequence[_Joined], left: Sequence[str]) -> Iterator[str]:
    if joined:
        count = sum(len(one.keys) for one in joined)
        yield (
            f"{counted(count, 'tensor')} became {listed([one.name for one in joined])}, as "
            "transformers loads them; revert gives these"
        )
    if left:
        yield f"transformers does not load {listed(left)}: left out"
