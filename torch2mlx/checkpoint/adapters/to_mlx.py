"""An adapter of PEFT as mlx-lm's: tensors turned, one configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.checkpoint.adapters.base import Base
from torch2mlx.checkpoint.adapters.names import Place
from torch2mlx.checkpoint.adapters.peft import (
    Adapter,
    LowRank,
    ask_base,
    named_base,
    refused,
    unsayable,
)
from torch2mlx.checkpoint.adapters.places import Placed, keys_of, placed
from torch2mlx.common.amounts import listed
from torch2mlx.errors import ConversionError
from torch2mlx.types import ITEM_BYTES, Piece, TensorSource

TURNED = "r i -> i r"
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True)
class Converted:
    """What is written for mlx-lm: tensors, the configuration, and notes for people."""

    pieces: tuple[Piece, ...]
    config: Mapping[str, Any]
    notes: tuple[str, ...]


def to_mlx(adapter: Adapter, base: Base | None) -> Converted:
    """An adapter in mlx-lm's form.

    Raises ConversionError, with every reason, for what that form cannot say.
    """
    adapter, dropped = without_copies(adapter, base)
    reasons = list(unsayable(adapter))
    if len(reasons) == 1 and adapter.whole and not adapter.settings.saved and base is None:
        raise ask_base(adapter, f"{reasons[0]}, which may be as they were")
    if reasons:
        raise refused(adapter, reasons)
    where = placed(adapter, base)
    experts = [m for m, place in where.places.items() if place.kind == "experts"]
    first = next(iter(adapter.modules.values()))
    if experts and first.magnitude is not None:
        raise refused(adapter, [f"it has no DoRA of experts: {listed(experts, 2)}"])
    pieces = tuple(_pieces(adapter, where))
    return Converted(pieces, _config(adapter, where, first), (*where.notes, *dropped))


def without_copies(adapter: Adapter, base: Base | None) -> tuple[Adapter, tuple[str, ...]]:
    """An adapter without the tensors that are the base model's own, and a note on them.

    PEFT saves embeddings whole where they are adapted, though they were not trained.
    """
    copies = [name for name, t in adapter.whole.items() if base is not None and base.holds(name, t)]
    if not copies or adapter.settings.saved:
        return adapter, ()
    left = {name: tensor for name, tensor in adapter.whole.items() if name not in copies}
    note = f"left out, as the base model has the same: {listed(copies, 3)}"
    return replace(adapter, whole=left), (note,)


def _config(adapter: Adapter, where: Placed, first: LowRank) -> dict[str, Any]:
    keys = keys_of(where)
    dora = first.magnitude is not None
    return {
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": keys.num_layers,
        "lora_parameters": {
            "rank": first.rank,
            "scale": first.scale,
            "dropout": adapter.settings.dropout,
            "keys": list(keys.keys),
        },
        "model": named_base(adapter),
        "peft": dict(adapter.settings.content),
    }


def _pieces(adapter: Adapter, where: Placed) -> Iterator[Piece]:
    grouped: dict[str, list[tuple[Place, LowRank]]] = defaultdict(list)
    for module, update in adapter.modules.items():
        place = where.places[module]
        if (place.kind == "embedding") != update.embedding:
            forms = ("a linear layer", "an embedding")
            raise ConversionError(
                f"{adapter.origin}: {update.a.key!r} is of {forms[update.embedding]}, and {module} "
                f"is {forms[not update.embedding]} in mlx-lm"
            )
        grouped[place.name].append((place, update))
    for name, members in grouped.items():
        if members[0][0].kind == "experts":
            yield from _stacked(adapter, name, members)
            continue
        ((_, update),) = members
        yield _turned(f"{name}.lora_a", update.a)
        yield _turned(f"{name}.lora_b", update.b)
        if update.magnitude is not None:
            yield _flat(f"{name}.m", update.magnitude)


def _turned(target: str, source: TensorSource) -> Piece:
    """A matrix with rows and columns exchanged."""
    shape = source.shape[::-1]
    load = lambda: source.load().permute((1, 0))  # noqa: E731
    return Piece(target, shape, source.dtype, (source.key,), TURNED, load)


def _flat(target: str, source: TensorSource) -> Piece:
    return Piece(target, source.shape, source.dtype, (source.key,), "copy", source.load)


def _stacked(adapter: Adapter, name: str, members: list[tuple[Place, LowRank]]) -> Iterator[Piece]:
    """All experts of a layer in one tensor, in PEFT's layout, which is mlx-lm's here."""
    ordered = [update for _, update in sorted(members, key=lambda m: m[0].expert or 0)]
    numbers = sorted(place.expert or 0 for place, _ in members)
    if numbers != list(range(len(numbers))):
        lost = next(i for i in range(len(numbers)) if i not in numbers)
        raise refused(adapter, [f"expert {lost} of {name} has no update, and others have one"])
    for part, sources in (("lora_a", [u.a for u in ordered]), ("lora_b", [u.b for u in ordered])):
        kinds = {(source.shape, source.dtype) for source in sources}
        if len(kinds) > 1:
            raise refused(adapter, [f"the experts of {name} differ in shape or dtype"])
        (shape, dtype), *_ = kinds
        keys = tuple(source.key for source in sources)
        load = _stack(sources, dtype, (len(sources), *shape))
        yield Piece(f"{name}.{part}", (len(sources), *shape), dtype, keys, "stack", load, True)


def _stack(
    sources: list[TensorSource], dtype: str, shape: tuple[int, ...]
) -> Callable[[], _core.Tensor]:
    def load() -> _core.Tensor:
        kind = _UNSIGNED[ITEM_BYTES[dtype]]
        flat = [np.asarray(source.load().dense()).reshape(-1).view(kind) for source in sources]
        return _core.from_buffer(np.concatenate(flat), dtype).split(shape)

    return load
