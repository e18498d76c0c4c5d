"""Other sizes of a model, found by trying: what torch raises for means another try."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.sizes.fields import Field, Recipe, Way, shapes_of
from torch2mlx.export.sizes.inputs import Inputs
from torch2mlx.export.sizes.reading import Sized, Values, read_settings

_PRIMES = (2, 3, 5, 7, 11, 13)
#: Whole numbers up to this are counts, above it widths.
_COUNT = 8
#: Counts are drawn up to this.
_MOST = 6
_UNIT = 12
_TRIES = 24
#: How many times sizes are drawn for all fields together.
_MANY = 400
#: No count is more than this, so that programs stay short.
_LARGEST = 9
#: How many of the fields that are equal in the model stay so where some do.
_TIED = 0.6


def is_size(field: Field) -> bool:
    """Whether a field is a number that may be another: neither a flag nor 0, which is an id, or
    says that something is left out."""
    return type(field.value) in (int, float) and field.value > 0


class Prober:
    """Finds sizes at which a model is made of the same layers as at its own."""

    def __init__(self, recipe: Recipe, model: Any, inputs: Inputs) -> None:
        self.recipe, self._inputs = recipe, inputs
        self._layers = _layers(model)
        self._random = random.Random(0)
        self.fields = [f for f in recipe.fields() if is_size(f)]
        self._seen: list[Values] = []
        self._settled = False

    def next(self) -> Sized:
        """Sizes that were not tried before.

        Raises TranslationError where there are none.
        """
        if not self._settled:
            self._settle()
        for values in self._draws(self.fields, _MANY * bool(self.fields)):
            made = self._tried(values)
            if made is not None:
                self._seen.append(values)
                return made
        raise TranslationError(
            f"{self.recipe.kind.__name__}: no other sizes were found at which torch runs it; "
            f"tried {', '.join(f.text for f in self.fields) or 'nothing: it takes no numbers'}"
        )

    def pin(self, fields: Sequence[Field]) -> None:
        """Leaves fields as they are from now on."""
        ways = {field.way for field in fields}
        self.fields = [field for field in self.fields if field.way not in ways]
        self._seen = []

    def alone(self, field: Field) -> Sized | None:
        """A size in which one field is another and the rest is the model's own; None where there
        is none that torch runs."""
        values = {f.way: f.value for f in self.fields}
        others = list(_other(field, self._random, _TRIES))
        if type(field.value) is int:
            others += [2 * field.value, 3 * field.value]
        made = (self._tried({**values, field.way: value}) for value in dict.fromkeys(others))
        return next(filter(None, made), None)

    def _settle(self) -> None:
        """Leaves the fields that can be others, at best all of them together."""
        self._settled = True
        made = next(filter(None, map(self._tried, self._draws(self.fields, _MANY))), None)
        if made is not None:
            read = read_settings(self.recipe, made)
            self.fields = [f for f in self.fields if not f.settings or f.way[1] in read]
            return
        fields = list(self.fields)
        for field in fields:
            if not any(self._tried({field.way: v}) for v in _other(field, self._random, 4)):
                pairs = (self._draws([field, o], 3) for o in fields if o is not field)
                if not any(self._tried(v) for values in pairs for v in values):
                    self.fields.remove(field)

    def _draws(self, fields: Sequence[Field], count: int) -> Iterator[Values]:
        """Sizes for some fields: any, then such that divide as the model's own do."""
        ratios = [
            (a, b)
            for a in fields
            for b in fields
            if a is not b and _whole(a) and _whole(b) and b.value > 1 and a.value % b.value == 0
        ]
        for i in range(count):
            values = dict(self._drawn(fields))
            if i % 4:
                for a, b in sorted(self._chosen(ratios), key=lambda pair: pair[0].value):
                    values[a.way] = values[b.way] * self._random.choice(
                        _PRIMES[:2] if a.value <= _COUNT else _PRIMES[:4]
                    )
            if i % 5 == 4:
                values = self._equal(fields, values)
            if all(values[f.way] <= _LARGEST for f in fields if _whole(f) and f.value <= _COUNT):
                yield values

    def _chosen(self, ratios: Sequence[tuple[Field, Field]]) -> list[tuple[Field, Field]]:
        """Some pairs of fields that shall divide: many of counts, few of widths."""
        counts = [(a, b) for a, b in ratios if a.value <= _COUNT and self._random.random() < 0.5]
        widths = [pair for pair in ratios if pair[0].value > _COUNT]
        few = min(len(widths), self._random.randint(0, 2))
        return [*counts, *self._random.sample(widths, few)]

    def _drawn(self, fields: Sequence[Field]) -> Iterator[tuple[Way, Any]]:
        units = self._random.sample(_PRIMES, len(_PRIMES))
        for i, field in enumerate(fields):
            unit = units[i % len(units)] * (1 + i // len(units))
            seen = [values.get(field.way) for values in self._seen]
            fresh = (v for v in _other(field, self._random, _TRIES, unit) if v not in seen)
            yield field.way, next(fresh, next(_other(field, self._random, 1, unit)))

    def _equal(self, fields: Sequence[Field], values: dict[Way, Any]) -> dict[Way, Any]:
        """Some fields that are equal in the model stay so."""
        first = {f.value: f.way for f in reversed(fields)}
        tied = [f for f in fields if self._random.random() < _TIED]
        return {**values, **{f.way: values[first[f.value]] for f in tied}}

    def _tried(self, values: Values) -> Sized | None:
        try:
            model = self.recipe.make(values)
            if _layers(model) != self._layers:
                return None
            given = self._inputs.at(model, self.fields, values)
        except Exception:  # whatever the model raises for such sizes
            return None
        return None if given is None else Sized(values, model, *given)


def _whole(field: Field) -> bool:
    return type(field.value) is int


def _other(field: Field, draw: random.Random, count: int, unit: int = 0) -> Iterator[Any]:
    """Other values of a field; `unit` makes those of several fields differ."""
    value = field.value
    for i in range(count):
        if type(value) is float:
            factor = draw.uniform(0.55, 0.95) if value < 1 else draw.uniform(1.05, 1.9)
            yield float(f"{value * factor:.3g}")
        elif value <= _COUNT:
            yield draw.choice([n for n in range(2, _MOST + 1) if n != value])
        else:
            yield _UNIT * (draw.choice(_PRIMES) if i or not unit else unit)


def _layers(model: Any) -> Any:
    """Names and ranks of a model's tensors; numbers in names are counts."""
    held = shapes_of(model).items()
    return {(re.sub(r"\d+", "#", name), len(shape)) for name, shape in held}
