"""Other sizes of a model, found by trying: what torch raises for means another try."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.capture.empty_weights import empty_weights, is_empty
from torch2mlx.export.sizes.deciding import Decision
from torch2mlx.export.sizes.fields import Field, Recipe, Way, is_kinds, shapes_of
from torch2mlx.export.sizes.inputs import Inputs
from torch2mlx.export.sizes.reading import Sized, Values, read_settings
from torch2mlx.export.verify.preserved import preserved

_PRIMES = (2, 3, 5, 7, 11, 13)
#: Whole numbers up to this are counts, above it widths.
_COUNT = 8
#: Counts are drawn up to this.
_MOST = 13
_UNIT = 12
_TRIES = 24
#: How many times sizes are drawn for all fields together.
_MANY = 400
#: No count is more than this.
_LARGEST = 26
#: So many layers are drawn at least, and at most where that holds all kinds of them: programs are
#: as long as there are layers.
_SHALLOW, _DEEPEST = 2, 4
#: No width that several others divide is more than this.
_WIDEST = 400
#: Sizes of which one is more than this come after others, those that are twice it after these.
_WIDE = 512
#: Parameters of the largest model that is made of one whose own weights are not in memory.
_MANY_PARAMETERS = 1 << 27
#: How many draws of one kind go before others.
_AHEAD = 40
#: How many of the fields that are equal in the model stay so where some do.
_TIED = 0.6


def is_power(value: Any) -> bool:
    """Whether a number is a power of two."""
    return type(value) is int and value > 0 and value & (value - 1) == 0


def is_size(field: Field) -> bool:
    """Whether a field is a number that may be another: neither a flag nor 0, which is an id, or
    says that something is left out."""
    return type(field.value) in (int, float) and field.value > 0


class Prober:
    """Finds sizes at which a model is made of the same layers as at its own."""

    def __init__(self, recipe: Recipe, model: Any, inputs: Inputs) -> None:
        self.recipe, self._inputs = recipe, inputs
        self._model, self._layers = model, _layers(model)
        #: Whether the model has shapes alone, and may be larger than memory.
        self.empty = is_empty(model)
        self._random = random.Random(0)
        self.fields = [f for f in recipe.fields() if is_size(f)]
        self.depths = {f.way for f in self.fields if _is_depth(recipe, f, model)}
        self._seen: list[Values] = []
        self._pinned: list[Field] = []
        #: Fields that are powers of two wherever the program is this one.
        self.twos: list[Field] = []
        #: Comparisons that come out so wherever the program is this one.
        self.decided: list[tuple[Decision, bool]] = []
        #: Of sizes at which the program is another: what is equal in the model and was not there.
        self._parted: list[frozenset[tuple[Way, Way]]] = []
        self._settled = False
        self._shallow = max([_SHALLOW, *(_kinds_within(f.value) for f in recipe.fields())])
        #: What holds at the model's own sizes and at all others: fields are equal, or divide.
        whole = sorted(filter(_whole, self.fields), key=lambda f: f.value)
        pairs = list(itertools.combinations(whole, 2))
        self._equals = [(a, b) for a, b in pairs if a.value == b.value]
        self._divides = [
            (a, b) for a, b in pairs if 1 < a.value < b.value and not b.value % a.value
        ]

    def next(self) -> Sized:
        """Sizes that were not tried before.

        Raises TranslationError where there are none.
        """
        with preserved(self._model):
            if not self._settled:
                self._settle()
            made = self._first(self._draws(self.fields, _MANY * bool(self.fields)))
        if made is not None:
            self._seen.append(made.values)
            self._learn(made.values)
            return made
        raise TranslationError(
            f"{self.recipe.kind.__name__}: no other sizes were found at which torch runs it; "
            f"tried {', '.join(f.text for f in self.fields) or 'nothing: it takes no numbers'}"
        )

    def _learn(self, values: Values) -> None:
        """Forgets what has to hold and does not at sizes that a model runs at."""
        at = {f: values.get(f.way, f.value) for pair in self._pairs() for f in pair}
        self._equals = [(a, b) for a, b in self._equals if at[a] == at[b]]
        self._divides = [(a, b) for a, b in self._divides if at[b] % at[a] == 0]

    def _pairs(self) -> list[tuple[Field, Field]]:
        return [*self._equals, *self._divides]

    def pin(self, fields: Sequence[Field]) -> None:
        """Leaves fields as they are from now on."""
        ways = {field.way for field in fields}
        self._pinned += fields
        self.fields = [field for field in self.fields if field.way not in ways]

    def holds(self, values: Values) -> bool:
        """Whether sizes leave as they are all fields that stay so."""
        kept = all(values.get(f.way, f.value) == f.value for f in self._pinned)
        kept = kept and all(is_power(values.get(f.way, f.value)) for f in self.twos)
        return kept and all(one.at(values) == outcome for one, outcome in self.decided)

    def where(self, decision: Decision, outcome: bool) -> Sized | None:
        """Sizes at which a comparison comes out so; None where none were found."""
        drawn = self._draws(self.fields, _MANY)
        fitting = (values for values in drawn if decision.at(values) == outcome)
        with preserved(self._model):
            return self._first(itertools.islice(fitting, _TRIES))

    def _first(self, drawn: Iterator[Values]) -> Sized | None:
        """The first of some sizes that torch runs a model at."""
        return next(filter(None, map(self._tried, drawn)), None)

    def alone(self, field: Field, beside: Values) -> Sized | None:
        """A size in which one field is another and the rest is what it is in `beside`, where it
        says that, or the model's own; None where there is none that torch runs."""
        values = {f.way: beside.get(f.way, f.value) for f in self.fields}
        own = values[field.way]
        others = [value for value in self._other(field, _TRIES) if value != own]
        if _whole(field) and field.way not in self.depths:
            others += [2 * own, 3 * own]
        drawn = ({**values, field.way: value} for value in dict.fromkeys(others))
        with preserved(self._model):
            return self._first(drawn)

    def _settle(self) -> None:
        """Leaves the fields that can be others, at best all of them together."""
        self._settled = True
        made = self._first(self._draws(self.fields, _MANY))
        if made is not None:
            self._learn(made.values)
            read = read_settings(self.recipe, made)
            self.fields = [f for f in self.fields if not f.settings or f.way[1] in read]
            return
        fields = list(self.fields)
        for field in fields:
            if not any(self._tried({field.way: v}) for v in self._other(field, 4)):
                pairs = (self._draws([field, o], 3) for o in fields if o is not field)
                if not any(self._tried(v) for values in pairs for v in values):
                    self.fields.remove(field)

    def _draws(self, fields: Sequence[Field], count: int) -> Iterator[Values]:
        """Sizes for some fields: first those at which no two are equal that are not in the model,
        which programs have other forms for."""
        drawn = self._any(fields, count)
        while ahead := list(itertools.islice(drawn, _AHEAD)):
            yield from sorted(ahead, key=lambda values: self._unlikely(fields, values))

    def _unlikely(self, fields: Sequence[Field], values: Values) -> tuple[Any, ...]:
        """What comes later: wide models, which take memory; sizes that part what has made the
        program another; those at which fields are equal that are not in the model, or are as they
        are there."""
        parted = _parted(fields, values)
        known = any(other <= parted for other in self._parted if other)
        alike = _coincidences(fields, values) - len(parted), _alike(fields, values)
        return _wide(fields, values), known, *alike

    def other(self, values: Values) -> None:
        """Remembers sizes at which the program is another."""
        self._parted.append(_parted(self.fields, values))

    def tied(self, one: Field, other: Field) -> bool:
        """Whether two fields are the same wherever a model can be made, and is of one program."""
        if any((one.way, other.way) in parted for parted in self._parted):
            return True
        drawn = (v for v in self._any(self.fields, _MANY) if v[one.way] != v[other.way])
        return not any(self._tried(values) for values in itertools.islice(drawn, _AHEAD))

    def _any(self, fields: Sequence[Field], count: int) -> Iterator[Values]:
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
            if i % 3 == 2:
                self._relate(fields, values)
            if all(values[f.way] <= self._most(f) for f in fields) and self.holds(values):
                yield values

    def _most(self, field: Field) -> float:
        """What a field is at most, so that programs stay short."""
        if field.way in self.depths:
            return max(_DEEPEST, self._shallow + 2)
        if field in self.twos:
            return max(2 * int(field.value), 4 * _COUNT)
        return _LARGEST if _whole(field) and field.value <= _COUNT else math.inf

    def _other(self, field: Field, count: int, unit: int = 0) -> Iterator[Any]:
        """Other values of a field; `unit` makes those of several fields differ."""
        value = field.value
        for i in range(count):
            if type(value) is float:
                factor = self._random.uniform(*((0.55, 0.95) if value < 1 else (1.05, 1.9)))
                yield float(f"{value * factor:.3g}")
            elif field in self.twos:
                powers = [2**n for n in range(1, 8) if 2**n <= self._most(field)]
                yield self._random.choice([n for n in powers if n != value])
            elif value <= _COUNT or field.way in self.depths:
                least = self._shallow if field.way in self.depths else _SHALLOW
                most = int(min(self._most(field), max(_MOST, least + 1)))
                yield self._random.choice([n for n in range(least, most + 1) if n != value])
            else:
                yield _UNIT * (self._random.choice(_PRIMES) if i or not unit else unit)

    def _relate(self, fields: Sequence[Field], values: dict[Way, Any]) -> None:
        """Makes fields equal, and such that divide, as they were at all sizes so far."""
        for field in sorted(filter(_whole, fields), key=lambda f: f.value):
            at = {f: values.get(f.way, f.value) for pair in self._pairs() for f in pair}
            same = [a for a, b in self._equals if b is field]
            unit = math.lcm(*(at[a] for a, b in self._divides if b is field))
            if same:
                values[field.way] = at[same[0]]
            elif unit > 1:
                most = min(self._most(field), _WIDEST)
                values[field.way] = unit * self._random.choice(
                    [n for n in _PRIMES if n * unit <= most] or [1]
                )

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
            fresh = (v for v in self._other(field, _TRIES, unit) if v not in seen)
            yield field.way, next(fresh, next(self._other(field, 1, unit)))

    def _equal(self, fields: Sequence[Field], values: dict[Way, Any]) -> dict[Way, Any]:
        """Some fields that are equal in the model stay so."""
        first = {f.value: f.way for f in reversed(fields)}
        tied = [f for f in fields if self._random.random() < _TIED]
        return {**values, **{f.way: values[first[f.value]] for f in tied}}

    def _tried(self, values: Values) -> Sized | None:
        try:
            if self.empty and _parameters(self.recipe, values) > _MANY_PARAMETERS:
                return None
            model = self.recipe.make(values)
            if _layers(model) != self._layers:
                return None
            given = self._inputs.at(model, self.fields, values)
            model = self.recipe.make(values)  # a call may have changed the first
        except Exception:  # whatever the model raises for such sizes
            return None
        return None if given is None else Sized(values, model, *given)


def _whole(field: Field) -> bool:
    return type(field.value) is int


def _wide(fields: Sequence[Field], values: Values) -> int:
    """How many times the largest of some sizes is twice what is no wide model."""
    most = max((values[f.way] for f in fields if _whole(f)), default=0)
    return max(0, math.ceil(math.log2(max(most, 1) / _WIDE)))


def _parameters(recipe: Recipe, values: Values) -> int:
    """How many parameters a model has at some sizes."""
    with empty_weights():
        model = recipe.make(values)
    return sum(p.numel() for p in model.parameters())


def _parted(fields: Sequence[Field], values: Values) -> frozenset[tuple[Way, Way]]:
    """Pairs of whole numbers that are equal in the model and not at some sizes."""
    whole = [f for f in fields if _whole(f)]
    pairs = itertools.combinations(whole, 2)
    return frozenset(
        (a.way, b.way) for a, b in pairs if a.value == b.value and values[a.way] != values[b.way]
    )


def _coincidences(fields: Sequence[Field], values: Values) -> int:
    """How many pairs of whole numbers are equal at some sizes and not in the model, or are as many
    times the other as there."""
    whole = [f for f in fields if _whole(f)]
    return sum(
        values[a.way] * b.value == values[b.way] * a.value or values[a.way] == values[b.way]
        for a, b in itertools.combinations(whole, 2)
        if a.value != b.value
    )


def _alike(fields: Sequence[Field], values: Values) -> int:
    """How many simple expressions of whole numbers have the value of another at some sizes."""
    held = [values[f.way] for f in fields if _whole(f)]
    made = [*held, *(2 * n for n in held)]
    for a, b in itertools.combinations(held, 2):
        made += [a + b, a * b, max(a, b) // min(a, b)]
    return len(made) - len(set(made))


def _kinds_within(value: Any) -> int:
    """How many of the first items of a list of kinds have all kinds among them."""
    if not is_kinds(value):
        return 0
    return next(n for n in range(len(value) + 1) if set(value[:n]) == set(value))


def _is_depth(recipe: Recipe, field: Field, model: Any) -> bool:
    """Whether a field says how many layers of its kinds a model has."""
    import torch

    if not _whole(field):
        return False
    try:
        with torch.device("meta"):
            other = recipe.make({field.way: min(field.value - 1, _DEEPEST) or 2})
    except Exception:  # whatever the model raises for such a size
        return False
    more = len(shapes_of(other)) != len(shapes_of(model))
    return bool(more and _layers(other) == _layers(model))


def _layers(model: Any) -> Any:
    """Names and ranks of a model's tensors; numbers in names are counts."""
    held = shapes_of(model).items()
    return {(re.sub(r"\d+", "#", name), len(shape)) for name, shape in held}
