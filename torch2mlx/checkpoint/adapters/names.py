"""Which module of transformers is which of mlx-lm, by model type, as a table.

`names.json` is made by `python -m tools.make_adapter_names` from both libraries. A row, on a line
of its own, is what several model types share:

    {"of": ["llama", ...], "layers": "model.layers", "count": "num_hidden_layers",
     "same": ["model.layers.*.mlp.up_proj", ...], "other": {name there: name here},
     "turned": {...}, "embedding": {...}, "experts": {...}}

`*` is a number. `layers` is the list from whose end mlx-lm counts, `count` the entry of config.json
with its length. `same` and `other` are linear layers under one name or two, `turned` those that
transformers keeps as Conv1D, `embedding` embeddings, `experts` linear layers of single experts,
which mlx-lm has as one: the last number of such a name is the expert's. What is not listed is no
module in one of the two, or not the same one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from torch2mlx.checkpoint.plan.architectures import starred

TABLE = Path(__file__).with_name("names.json")
_KINDS = {"other": "linear", "turned": "turned", "embedding": "embedding", "experts": "experts"}


class Place(NamedTuple):
    """A module in the other library; `expert` is its number where that one holds several."""

    name: str
    kind: str  # "linear", "turned", "embedding", "experts"
    expert: int | None = None


def _filled(pattern: str, numbers: Iterable[str]) -> str:
    """A pattern with its stars as these numbers, in order."""
    left = iter(numbers)
    return ".".join(next(left) if part == "*" else part for part in pattern.split("."))


def numbers_in(name: str) -> list[str]:
    """The parts of a dotted name that are numbers."""
    return [part for part in name.split(".") if part.isdigit()]


@dataclass(frozen=True)
class Names:
    """What the table says of some model types; fields as in a row of it.

    `modules`: pattern of transformers -> (pattern of mlx-lm, kind).
    """

    types: tuple[str, ...]
    layers: str
    count: str
    modules: Mapping[str, tuple[str, str]]

    def in_mlx(self, module: str) -> Place | None:
        """The module of mlx-lm that a module of transformers is, or is a part of."""
        found = self.modules.get(starred(module))
        if found is None:
            return None
        pattern, kind = found
        numbers = numbers_in(module)
        expert = int(numbers.pop()) if kind == "experts" else None
        return Place(_filled(pattern, numbers), kind, expert)

    @cached_property
    def _back(self) -> Mapping[str, tuple[str, str]]:
        return {target: (source, kind) for source, (target, kind) in self.modules.items()}

    def in_torch(self, module: str) -> Place | None:
        """The module of transformers that a module of mlx-lm is; of experts the name with a star
        for their number."""
        found = self._back.get(starred(module))
        if found is None:
            return None
        pattern, kind = found
        numbers = [*numbers_in(module), *(["*"] if kind == "experts" else ())]
        return Place(_filled(pattern, numbers), kind)


@lru_cache(maxsize=1)
def _rows() -> tuple[Names, ...]:
    return tuple(map(_read, json.loads(TABLE.read_text())))


def _read(row: Mapping[str, Any]) -> Names:
    modules = {name: (name, "linear") for name in row.get("same", ())}
    for group, kind in _KINDS.items():
        modules |= {name: (target, kind) for name, target in row.get(group, {}).items()}
    return Names(tuple(row["of"]), row.get("layers", ""), row.get("count", ""), modules)


def of_type(model_type: str) -> Names | None:
    """What the table says of a model type."""
    return next((row for row in _rows() if model_type in row.types), None)


#: A model type's row, and where each of some modules is in the other library.
_Fitting = list[tuple[Names, tuple[Place, ...]]]


def _fitting(places: Callable[[Names], list[Place | None]]) -> _Fitting:
    """Rows that have all of some modules."""
    found = []
    for row in _rows():
        known = places(row)
        there = tuple(place for place in known if place is not None)
        if len(there) == len(known):
            found.append((row, there))
    return found


def _one(fitting: _Fitting) -> tuple[Names | None, tuple[str, ...]]:
    """(what all of these rows say, their types); None where they differ."""
    types = tuple(kind for row, _ in fitting for kind in row.types)
    said = {(row.layers, tuple(place.name for place in places)) for row, places in fitting}
    return (fitting[0][0] if len(said) == 1 else None), types


def agreed(modules: Iterable[str], turned: bool) -> tuple[Names | None, tuple[str, ...]]:
    """(what all model types that have these modules say, the types); None where they differ.

    `modules` are of transformers. `turned`: whether their linear layers are Conv1D, as PEFT's
    fan_in_fan_out tells.
    """
    named = list(modules)

    def places(row: Names) -> list[Place | None]:
        return [_as_told(row.in_mlx(name), turned) for name in named]

    return _one(_fitting(places))


def _as_told(place: Place | None, turned: bool) -> Place | None:
    """None for a module that is no Conv1D where all are, or one where none is."""
    fits = place is not None and place.kind in ("embedding", "turned" if turned else place.kind)
    return place if fits and place and (turned or place.kind != "turned") else None


def agreed_back(modules: Iterable[str]) -> tuple[Names | None, tuple[str, ...]]:
    """The same for modules of mlx-lm."""
    named = list(modules)
    return _one(_fitting(lambda row: [row.in_torch(name) for name in named]))
