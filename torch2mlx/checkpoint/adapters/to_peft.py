"""An adapter of mlx-lm as PEFT's: tensors turned, one configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.adapters.base import Base
from torch2mlx.checkpoint.adapters.mlx import MlxAdapter, Update
from torch2mlx.checkpoint.adapters.names import Names, Place, agreed_back
from torch2mlx.checkpoint.adapters.peft import PREFIX
from torch2mlx.checkpoint.adapters.settings import Settings, settings
from torch2mlx.common.amounts import listed
from torch2mlx.common.options import option
from torch2mlx.errors import CheckpointError, RevertError
from torch2mlx.types import Piece

_TURNED = "i r -> r i"


@dataclass(frozen=True)
class ForPeft:
    """What is written for PEFT: tensors, the configuration, and notes for people."""

    pieces: tuple[Piece, ...]
    config: Mapping[str, Any]
    notes: tuple[str, ...]


def to_peft(adapter: MlxAdapter, base: Base | None) -> ForPeft:
    """An adapter in PEFT's form.

    Raises RevertError for modules that transformers' model has not, or has in another form.
    """
    places, notes = _places(adapter, base)
    _check_embeddings(adapter, places, base)
    pieces = tuple(p for name, u in adapter.updates.items() for p in _pieces(u, places[name]))
    modules = [p.target.removeprefix(PREFIX) for p in pieces if ".lora_" in p.target]
    modules = [m.rpartition(".lora_")[0] for m in modules]
    kept = _kept(adapter, modules)
    config = dict(kept.content) if kept else _config(adapter, places, modules, base)
    return ForPeft(pieces, config, notes)


def _places(adapter: MlxAdapter, base: Base | None) -> tuple[dict[str, Place], tuple[str, ...]]:
    """Each module's place in transformers' model, and a note where it was not at hand."""
    if base is not None and base.names is None:
        return _by_name(adapter, base), ()
    names, note = (base.names, ()) if base is not None else _settled(adapter)
    assert names is not None
    places = {module: names.in_torch(module) for module in adapter.updates}
    lost = [module for module, place in places.items() if place is None]
    if lost:
        kind = names.types[0] if base is None else base.content.get("model_type")
        raise RevertError(
            f"{adapter.origin}: the {kind} of transformers has no module of its own for "
            f"{listed(lost, 3)}"
        )
    return {module: place for module, place in places.items() if place is not None}, note


def _settled(adapter: MlxAdapter) -> tuple[Names, tuple[str, ...]]:
    names, types = agreed_back(adapter.updates)
    if names is not None:
        shown = listed(types, 3)
        return names, (f"the base model is not at hand: names are those on which {shown} agree",)
    why = f"no model type has all of its modules: {listed(adapter.updates, 3)}"
    if types:
        why = f"its modules are in {listed(types, 3)}, which transformers names differently"
    raise RevertError(
        f"{adapter.origin}: {why}: pass {option('base')} the folder of the base model"
    )


def _by_name(adapter: MlxAdapter, base: Base) -> dict[str, Place]:
    """Places in a model of one's own, whose modules have their names in both libraries."""
    lost = [m for m in adapter.updates if base.shape(f"{m}.weight") is None]
    if lost:
        raise RevertError(f"{adapter.origin}: {base.folder} has no {lost[0]}.weight to adapt")
    return {
        module: Place(module, "embedding" if _is_embedding(update, base) else "linear")
        for module, update in adapter.updates.items()
    }


def _is_embedding(update: Update, base: Base) -> bool:
    """Told by the weight, (rows, columns), where `a` begins with its rows."""
    shape = base.shape(f"{update.module}.weight") or ()
    return shape == (update.a.shape[0], update.b.shape[-1]) and shape[0] != shape[-1]


def _check_embeddings(adapter: MlxAdapter, places: Mapping[str, Place], base: Base | None) -> None:
    found = [module for module, place in places.items() if place.kind == "embedding"]
    if not found:
        return
    if any(adapter.updates[module].magnitude is not None for module in found):
        raise RevertError(
            f"{adapter.origin}: {found[0]} is an embedding, of which DoRA weighs the rows in "
            "mlx-lm and the columns in PEFT: mlx_lm.fuse writes the model"
        )
    if base is None:
        raise RevertError(
            f"{adapter.origin}: {found[0]} is adapted, and whether the output layer is tied to it "
            f"is not known: pass {option('base')} the folder of the base model"
        )
    if base.tied is not False:
        how = "is tied to" if base.tied else "may be tied to"
        raise RevertError(
            f"{adapter.origin}: {found[0]} is adapted, and in {base.folder} the output layer {how} "
            "it: mlx-lm changed both, PEFT would change the embedding alone; mlx_lm.fuse writes "
            "the model"
        )


def _pieces(update: Update, place: Place) -> Iterator[Piece]:
    head = PREFIX + place.name
    if place.kind == "experts" or update.experts:
        for number in range(update.experts):
            one = head.replace("*", str(number))
            yield _part(f"{one}.lora_A.weight", update.module, "lora_a", update.a, number)
            yield _part(f"{one}.lora_B.weight", update.module, "lora_b", update.b, number)
        return
    ends = ("lora_embedding_A", "lora_embedding_B")
    first, second = ends if place.kind == "embedding" else ("lora_A.weight", "lora_B.weight")
    yield _turned(f"{head}.{first}", f"{update.module}.lora_a", update.a)
    yield _turned(f"{head}.{second}", f"{update.module}.lora_b", update.b)
    if update.magnitude is not None:
        m, key = update.magnitude, f"{update.module}.m"
        yield Piece(f"{head}.lora_magnitude_vector", m.shape, m.dtype, (key,), "copy", lambda: m)


def _turned(target: str, key: str, tensor: _core.Tensor) -> Piece:
    load = lambda: tensor.permute((1, 0))  # noqa: E731
    return Piece(target, tensor.shape[::-1], tensor.dtype, (key,), _TURNED, load)


def _part(target: str, module: str, part: str, tensor: _core.Tensor, number: int) -> Piece:
    """One expert's matrix, which has PEFT's layout already."""
    shape = tensor.shape[1:]
    load = lambda: tensor.narrow(0, number, 1)  # noqa: E731
    return Piece(target, shape, tensor.dtype, (f"{module}.{part}",), f"expert {number}", load)


def _kept(adapter: MlxAdapter, modules: list[str]) -> Settings | None:
    """The configuration of PEFT that the adapter was converted from, where it is still true."""
    content = adapter.content.get("peft")
    if not isinstance(content, dict):
        return None
    try:
        found = settings(adapter.origin, content)
        true = all(
            (found.rank_of(m), found.scale_of(m)) == (adapter.rank, adapter.scale) for m in modules
        )
    except CheckpointError:
        return None
    dora = any(update.magnitude is not None for update in adapter.updates.values())
    same = found.dropout == adapter.dropout and found.flag("use_dora") == dora
    return found if true and same and _all_there(adapter) else None


def _all_there(adapter: MlxAdapter) -> bool:
    """Whether the tensors are of all modules that the configuration of mlx-lm speaks of."""
    told = adapter.content.get("lora_parameters", {}).get("keys")
    layers = adapter.content.get("num_layers")
    if not isinstance(told, list) or not isinstance(layers, int):
        return False
    whole = [key for key in told if key in adapter.updates]
    within = [key for key in told if key not in adapter.updates]
    ends = [name for name in adapter.updates if name not in whole]
    known = all(any(name.endswith(f".{key}") for key in within) for name in ends)
    return known and len(ends) == layers * len(within)


def _config(
    adapter: MlxAdapter, places: Mapping[str, Place], modules: list[str], base: Base | None
) -> dict[str, Any]:
    name = adapter.content.get("model")
    told = str(base.folder) if base is not None else name if isinstance(name, str) else None
    dora = any(update.magnitude is not None for update in adapter.updates.values())
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": told,
        "inference_mode": True,
        "r": adapter.rank,
        "lora_alpha": alpha_of(adapter.scale, adapter.rank),
        "lora_dropout": adapter.dropout,
        "target_modules": sorted(set(modules)),
        "fan_in_fan_out": any(place.kind == "turned" for place in places.values()),
        "bias": "none",
        "use_rslora": False,
        "use_dora": dora,
        "init_lora_weights": True,
        "modules_to_save": None,
    }


def alpha_of(scale: float, rank: int) -> float:
    """The alpha that PEFT divides by the rank to get this scale; the nearest where none does."""
    near = scale * rank
    options = (near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf))
    best = min(options, key=lambda alpha: abs(alpha / rank - scale))
    return int(best) if best == int(best) else best
