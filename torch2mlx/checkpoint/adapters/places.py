"""Where the modules of an adapter are in mlx-lm's model, and how its configuration names them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch2mlx.checkpoint.adapters.base import Base
from torch2mlx.checkpoint.adapters.names import Names, Place, agreed
from torch2mlx.checkpoint.adapters.peft import Adapter, LowRank, ask_base, way_out
from torch2mlx.common.amounts import listed
from torch2mlx.common.options import given, option
from torch2mlx.errors import ConversionError


@dataclass(frozen=True)
class Placed:
    """Each module of an adapter with its place in mlx-lm's model.

    `layers` is the list that mlx-lm counts from the end, `count` its length; "" and 0 where not
    known.
    """

    places: Mapping[str, Place]
    layers: str
    count: int
    notes: tuple[str, ...] = ()


def placed(adapter: Adapter, base: Base | None) -> Placed:
    """Places as the base model's type tells them, or all types that have such modules.

    Raises ConversionError for modules that mlx-lm's model has not, or has in another form.
    """
    if base is None:
        names, types = agreed(adapter.modules, adapter.settings.flag("fan_in_fan_out"))
        if names is None:
            raise ask_base(adapter, _unsettled(adapter, types))
        if rows := [module for module, update in adapter.modules.items() if update.embedding]:
            why = f"{rows[0]} is adapted, and whether the output layer is tied to it is not known"
            raise ask_base(adapter, why)
        note = f"the base model is not at hand: names are those on which {listed(types, 3)} agree"
        return Placed(_all(adapter, names, "mlx-lm's model"), names.layers, 0, (note,))
    names = base.names
    if names is None:
        return _by_name(adapter, base)
    kind = f"mlx-lm's {base.content.get('model_type')}"
    places = _all(adapter, names, kind)
    _check_tie(adapter, places, base)
    for module, update in adapter.modules.items():
        _check_shape(adapter, module, update, base)
    return Placed(places, names.layers, base.layers(names))


def _unsettled(adapter: Adapter, types: tuple[str, ...]) -> str:
    if types:
        return f"its modules are in {listed(types, 3)}, which mlx-lm names differently"
    return f"no model type of mlx-lm has all of its modules: {listed(adapter.modules, 3)}"


def _all(adapter: Adapter, names: Names, kind: str) -> dict[str, Place]:
    places = {module: names.in_mlx(module) for module in adapter.modules}
    lost = [module for module, place in places.items() if place is None]
    if lost:
        raise ConversionError(
            f"{adapter.origin}: {kind} has no module of its own for {listed(lost, 3)}. "
            f"{way_out(adapter)}"
        )
    return {module: place for module, place in places.items() if place is not None}


def _by_name(adapter: Adapter, base: Base) -> Placed:
    """Places in a folder that brings its own model.py: its tensors have its modules' names."""
    kind = str(base.content.get("model_type"))[:40]
    if adapter.live is not None:
        raise ConversionError(
            f"{adapter.origin}: the model is of type {kind}, for which mlx-lm's names are not "
            f"known: pass {option('base')} the folder of the model in MLX. {way_out(adapter)}"
        )
    if not base.mlx:
        raise ConversionError(
            f"{adapter.origin}: {base.folder} is of type {kind}, for which mlx-lm's names are not "
            f"known: pass the folder of the model in MLX, or {given('merge', str(base.folder))}"
        )
    places = {}
    for module, update in adapter.modules.items():
        _check_shape(adapter, module, update, base, missing=True)
        places[module] = Place(module, "embedding" if update.embedding else "linear")
    _check_tie(adapter, places, base)
    return Placed(places, _common_list(adapter.modules), base.layers(None))


def _common_list(modules: Iterable[str]) -> str:
    """The list that all numbered modules are in; "" where there are several."""
    heads = set()
    for module in modules:
        parts = module.split(".")
        first = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if first is not None:
            heads.add(".".join(parts[:first]))
    return heads.pop() if len(heads) == 1 else ""


def _check_tie(adapter: Adapter, places: Mapping[str, Place], base: Base) -> None:
    """PEFT leaves the output layer of a tied model alone; mlx-lm updates both with one."""
    embeddings = [module for module, place in places.items() if place.kind == "embedding"]
    if embeddings and base.tied is not False:
        how = "is tied to" if base.tied else "may be tied to"
        raise ConversionError(
            f"{adapter.origin}: {embeddings[0]} is adapted, and in {base.folder} the output layer "
            f"{how} it: mlx-lm would change both, PEFT changes the embedding alone"
        )
    if base.tied and "lm_head" in adapter.modules:
        raise ConversionError(
            f"{adapter.origin}: lm_head is adapted, and in {base.folder} it is tied to the "
            "embedding: mlx-lm has no module of its own for it"
        )


def _check_shape(
    adapter: Adapter, module: str, update: LowRank, base: Base, missing: bool = False
) -> None:
    """Raises ConversionError where the base model's weight is of other sizes."""
    shape = base.shape(f"{module}.weight")
    packed = f"{module}.scales" in base.tensors
    if shape is None and missing:
        raise ConversionError(f"{adapter.origin}: {base.folder} has no {module}.weight to adapt")
    if shape is None or packed or len(shape) != 2:
        return
    sizes = (update.b.shape[0], update.a.shape[1])
    if sorted(sizes) != sorted(shape):
        raise ConversionError(
            f"{adapter.origin}: the update of {module} is {sizes}, and its weight in {base.folder} "
            f"is {shape}"
        )


@dataclass(frozen=True)
class Keys:
    """What mlx-lm is told of the modules: `keys` within a layer or of the model, `num_layers`."""

    keys: tuple[str, ...]
    num_layers: int


def keys_of(where: Placed) -> Keys:
    """Keys within a layer for the last layers where all of these have the same modules.

    Otherwise, and where the number of layers is not known, every module by its full name, which
    mlx-lm looks up in the whole model.
    """
    names = sorted({place.name for place in where.places.values()})
    within: dict[int, set[str]] = defaultdict(set)
    outside = []
    for name in names:
        number, _, rest = name.removeprefix(f"{where.layers}.").partition(".")
        if where.layers and name.startswith(f"{where.layers}.") and number.isdigit() and rest:
            within[int(number)].add(rest)
        else:
            outside.append(name)
    reach = max(within, default=-1)
    if where.count and reach >= where.count:
        raise ConversionError(
            f"the adapter has layer {reach}, and the base model has {where.count} layers: it is "
            "not the model that this adapter was trained on"
        )
    last = range(min(within, default=0), where.count)
    if within and where.count and all(within.get(i) == within[last.start] for i in last):
        return Keys((*sorted(within[last.start]), *outside), len(last))
    return Keys(tuple(names), len(within))
