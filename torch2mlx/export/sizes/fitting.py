"""Expressions for the numbers of a program that differ from size to size."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch2mlx.errors import TranslationError
from torch2mlx.export.sizes.aligning import Hole, alike, holes
from torch2mlx.export.sizes.expressions import Expression, Expressions
from torch2mlx.export.sizes.fields import Field
from torch2mlx.export.sizes.probing import Prober
from torch2mlx.export.sizes.trials import Trial, Trials

#: Sizes that expressions are found with at first, with those of many parts, and at most.
_FEWEST, _SURE, _MOST = 2, 4, 6
#: Two fields that are the same wherever a model can be made: the second is written as the first.
Ties = tuple[tuple[Field, Field], ...]


class Unfit(TranslationError):
    """A number that no expression gives, or several do, with its place in the file."""

    def __init__(self, told: str, hole: Hole) -> None:
        super().__init__(told)
        self.hole = hole


class Still(TranslationError):
    """Fields that have one value wherever the program is this one."""

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__("the program is another at each other value that was tried")
        self.fields = fields


@dataclass(frozen=True)
class Fitted:
    """The expressions of a file's numbers, a size that shows that they are right, and fields that
    have to be equal."""

    found: Mapping[Hole, Expression]
    proof: Trial
    ties: Ties = ()


def fitted(trials: Trials, prober: Prober) -> Fitted:
    """An expression for each number that differs, and a size that shows they are right: one that
    they were not found with.

    Raises Unfit for a number that has none.
    """
    ties: Ties = ()
    while True:
        while len(trials.all) <= _FEWEST:
            trials.next()
        if still := _still(trials, prober):
            if len(trials.all) > _MOST:
                raise Still(still)
            trials.next()
            continue
        *known, proof = trials.all
        second = {other for _, other in ties}
        fields = [f for f in prober.fields if f not in second]
        found, unclear = _expressions(known, fields)
        if unclear is None and len(known) < _SURE and _by_chance(found.values()):
            trials.next()
            continue
        if unclear is None and agrees(proof, known[0], found):
            return Fitted(found, proof, ties)
        more = () if unclear is None else _ties(trials, prober, fields, unclear)
        ties = (*ties, *more)
        if not more:
            if len(trials.all) > _MOST:
                raise unclear or TranslationError("no expressions of the sizes give its numbers")
            trials.next()


def _by_chance(found: Iterable[Expression]) -> bool:
    """Whether some expression has so many parts that few sizes may give its number by chance: three
    fields and numbers together, and none of its parts another number's expression."""
    texts = {e.text({f: f.text for f in e.fields}): e.parts for e in found}
    simple = [text for text, parts in texts.items() if parts == 2]
    deep = [text for text, parts in texts.items() if parts > 2]
    return any(not any(part in text for part in simple) for text in deep)


def _still(trials: Trials, prober: Prober) -> list[Field]:
    """Fields that have one value at all sizes of the program."""
    values = {f: {trial.at.values[f.way] for trial in trials.all} for f in prober.fields}
    return [field for field, seen in values.items() if len(seen) == 1]


class _Several(Unfit):
    """A number that several expressions give."""

    def __init__(self, told: str, hole: Hole, fitting: Sequence[Expression]) -> None:
        super().__init__(told, hole)
        self.fields = list(dict.fromkeys(f for e in fitting for f in e.fields))


def _ties(trials: Trials, prober: Prober, fields: Sequence[Field], unclear: _Several) -> Ties:
    """Pairs of fields of several expressions that are equal wherever the program is this one."""
    order = [f for f in fields if f in unclear.fields]
    found: dict[Field, Field] = {}
    for one, other in itertools.combinations(order, 2):
        values = [(t.at.values[one.way], t.at.values[other.way]) for t in trials.all]
        if one in found or other in found or any(a != b for a, b in values):
            continue
        if prober.tied(one, other):
            found[other] = one
    return tuple((one, other) for other, one in found.items())


def _expressions(
    trials: Sequence[Trial], fields: Sequence[Field]
) -> tuple[dict[Hole, Expression], _Several | None]:
    """An expression for each number, and what is not clear about one.

    Raises Unfit for a number that none gives.
    """
    known = Expressions(fields, [trial.at.values for trial in trials])
    found: dict[Hole, Expression] = {}
    unclear = None
    for hole in holes([trial.file for trial in trials]):
        fitting = known.of(hole.values)
        where = trials[0].file[hole.statement]
        line = f"{'.'.join(filter(None, where.place))}: `{where.written({})}`"
        if not fitting:
            told = " and ".join(hole.values)
            raise Unfit(
                f"in {line}: {told} at other sizes is no expression of "
                f"{', '.join(f.text for f in fields)}",
                hole,
            )
        if len(fitting) > 1:
            texts = [e.text({f: f.text for f in e.fields}) for e in fitting]
            said = f"{texts[0]} and {texts[1]} both give {', '.join(hole.values)}"
            unclear = _Several(f"in {line}: {said}", hole, fitting)
        found[hole] = fitting[0]
    return found, unclear


def agrees(proof: Trial, first: Trial, found: Mapping[Hole, Expression]) -> bool:
    """Whether a file has the numbers that the expressions give, and else those of the first."""
    places = {(hole.statement, hole.place): e for hole, e in found.items()}
    for i, (other, one) in enumerate(alike([proof.file, first.file])):
        for j, (number, usual) in enumerate(zip(other.numbers, one.numbers, strict=True)):
            expression = places.get((i, j))
            if expression is None and number.text != usual.text:
                return False
            if expression is not None and not expression.gives(number.text, proof.at.values):
                return False
    return True
