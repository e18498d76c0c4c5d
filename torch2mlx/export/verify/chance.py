"""Models whose answers depend on random numbers: compared with torch's draws given to MLX, or said
not to be comparable."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from torch2mlx.export.verify.comparing import Compared, agree, compare, judged, off
from torch2mlx.export.verify.draws import Drawn, Unmatched, giving, noting
from torch2mlx.export.verify.noise import unstable
from torch2mlx.export.verify.preserved import seeded
from torch2mlx.export.verify.running import Answer, Case, Pair

#: What torch's stream is set to for further comparisons, since draws that MLX makes otherwise may
#: happen to make no difference once. The first uniform numbers of the two lie at both ends (0.83
#: and 0.09), so that a branch on one is taken and left.
SEEDS = (5, 13)
#: How often a forward is run with other numbers of Python's and numpy's streams.
TRIALS = 3


@dataclass(frozen=True)
class Chance:
    """Outputs compared under torch's draws, and what there is to note of it."""

    outputs: tuple[Compared, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Round:
    """One comparison under the same draws: the `whole` of torch's, what MLX has left of them, and
    the `problem` why MLX could not be given them one by one."""

    answer: Answer
    outputs: tuple[Compared, ...]
    whole: Drawn
    left: Drawn
    problem: str = ""

    @property
    def places(self) -> str:
        return self.whole.places

    @property
    def agreed(self) -> bool:
        return not self.problem and all(o.ok for o in self.outputs)


def with_draws(
    pair: Pair, case: Case, tolerance: float | None, outputs: tuple[Compared, ...]
) -> Chance | None:
    """Compares once more, MLX being given what torch draws, and again with other draws; None for a
    model that draws nothing. `outputs` are those of a comparison where each side drew its own."""
    first = _round(pair, case, tolerance)
    if first is None:
        return None
    if not first.agreed:
        return Chance(_told(pair, case, first, outputs))
    for seed in SEEDS:
        with seeded(seed):
            other = _round(pair, case, tolerance)
            if other is not None and not other.agreed:
                return Chance(_told(pair, case, other, other.outputs or outputs))
    if not first.left.given:  # none of them matters
        return Chance(first.outputs)
    notes = [f"MLX was given torch's random numbers: {first.places}"]
    if all(_same_numbers(pair, case, first.whole, seed) for seed in range(8)):
        notes.append(
            "torch draws the same numbers at every call, as a forward that sets the seed does; "
            "MLX's stream goes on"
        )
    return Chance(first.outputs, tuple(notes))


def alike_after(pair: Pair, case: Case, before: Sequence[Case]) -> bool | None:
    """Whether both sides answer alike after earlier calls, MLX being given what torch draws in all
    of them; None where it cannot be given that."""
    found = _round(pair, case, None, before)
    if found is None:
        return agree(pair.torch(case, before=before).parts, pair.mlx(case, before=before))
    return None if found.problem else found.agreed


def _round(
    pair: Pair, case: Case, tolerance: float | None, before: Sequence[Case] = ()
) -> _Round | None:
    """Both sides under torch's draws, in each layout of these that MLX's shapes allow."""
    answer, whole = _noted(pair, case, before)
    if not whole.draws:
        return None
    way, ways = 0, 1
    while way < ways:
        drawn = whole.again(way)
        try:
            found = pair.mlx(case, lambda: giving(drawn), before)  # noqa: B023 (called at once)
        except Unmatched as why:
            return _Round(answer, (), whole, drawn, f"{why}, which torch does not")
        outputs = compare(answer.parts, found, tolerance)
        if all(o.ok for o in outputs):
            break
        way, ways = way + 1, drawn.ways
    matched = way < ways or (not drawn.draws and drawn.sure and ways == 1)
    problem = "" if matched else "the draws could not be matched one by one"
    return _Round(answer, outputs, whole, drawn, problem)


def _noted(pair: Pair, case: Case, before: Sequence[Case] = ()) -> tuple[Answer, Drawn]:
    """torch's answer, and what it draws for it and for earlier calls."""
    told: list[Drawn] = []

    @contextmanager
    def listening() -> Iterator[None]:
        with noting() as drawn:
            told.append(drawn)
            yield

    return pair.torch(case, listening, before), told[0]


def _same_numbers(pair: Pair, case: Case, wanted: Drawn, seed: int) -> bool:
    """Whether torch draws the same numbers with its stream at another place."""
    with seeded(seed):
        _, found = _noted(pair, case)
    if len(found.draws) != len(wanted.draws):
        return False
    pairs = zip(found.draws, wanted.draws, strict=True)
    return all(np.array_equal(one.values, other.values) for one, other in pairs)


def _told(
    pair: Pair, case: Case, one: _Round, outputs: tuple[Compared, ...]
) -> tuple[Compared, ...]:
    """What differs under the same draws, or is unstable; incomparable, where MLX could not be given
    them, and what torch answers otherwise with other draws."""
    if not one.problem:
        return judged(one.outputs, "unstable", unstable(pair, case, one.answer, one.outputs))
    others = []
    for seed in SEEDS:
        with seeded(seed):
            others.append(pair.torch(case).parts)
    first, second = others
    chosen = {i for i, o in enumerate(compare(first, second, None)) if not o.ok}
    reason = f"it depends on random numbers ({one.places}); {one.problem}"
    return judged(outputs, "incomparable", dict.fromkeys({*off(outputs), *chosen}, reason))


@dataclass(frozen=True)
class Constants:
    """What there is to say of numbers of Python's or numpy's streams, which an exported program
    has as constants: the `reason` why the outputs are not comparable, or `notes`."""

    reason: str = ""
    notes: tuple[str, ...] = ()


def constants(pair: Pair, case: Case, answer: Answer) -> Constants:
    """Whether the outputs depend on draws with Python's or numpy's random modules."""
    others = " and ".join(sorted(answer.drew - {"torch"}))
    if not others:
        return Constants()
    drawing = f"the forward draws with {others}'s random module, and torch.export makes constants"
    trials = [_ends(0.0), _ends(1 - 2**-24), *map(seeded, range(TRIALS))]
    for trial in trials:
        try:
            with trial:
                same = agree(answer.parts, pair.torch(case).parts)
        except Exception:  # a forward that checks what it draws
            continue
        if not same:
            return Constants(f"{drawing} of these numbers: draw with torch.rand")
    return Constants(notes=(f"{drawing} of these numbers; other ones gave the same outputs",))


@contextmanager
def _ends(place: float) -> Iterator[None]:
    """While open, Python's and numpy's functions for numbers in a range answer the one at this
    place of it."""

    def between(low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        found = low + (high - low) * place
        return found if size is None else np.full(size, found)

    def shaped(*shape: Any) -> Any:
        return between(size=shape or None)

    def sized(size: Any = None) -> Any:
        return between(size=size)

    numpys: dict[str, Any] = {"rand": shaped, "random": sized}
    numpys.update(random_sample=sized, uniform=between)
    with (
        mock.patch.multiple(random, random=sized, uniform=between),
        mock.patch.multiple(np.random, **numpys),
    ):
        yield
