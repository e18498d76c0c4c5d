"""What a comparison amounts to: equal, wrong, or not to be told, with the reason."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch2mlx.checking.comparing import Compared, agree, compare, judged, off
from torch2mlx.checking.draws import Drawn, Unmatched, giving, noting
from torch2mlx.checking.noise import unstable
from torch2mlx.checking.running import Answer, Case, Pair


@dataclass(frozen=True)
class Judgement:
    """The outputs of one case, each with its verdict, and what else there is to say."""

    outputs: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    fixed: str = ""  # that random numbers became constants

    @property
    def ok(self) -> bool:
        """Whether all outputs agree."""
        return all(output.ok for output in self.outputs)


def judge(
    pair: Pair, case: Case, tolerance: float | None = None, answer: Answer | None = None
) -> Judgement:
    """Runs both sides and compares them; `answer` is torch's where it is known.

    Outputs that depend on random numbers are compared with torch's draws given to MLX. Raises
    VerificationError where the structures of the outputs or their shapes differ.
    """
    answer = answer or pair.torch(case)
    fixed = _fixed(pair, case, answer)
    if fixed:
        outputs = compare(answer.parts, answer.parts, tolerance)
        reasons = dict.fromkeys(range(len(outputs)), fixed)
        return Judgement(judged(outputs, "incomparable", reasons), fixed=fixed)
    outputs = compare(answer.parts, pair.mlx(case), tolerance)
    if all(o.ok for o in outputs):
        return Judgement(outputs)
    if "torch" in answer.drew:
        return _with_draws(pair, case, tolerance, outputs)
    return Judgement(judged(outputs, "unstable", unstable(pair, case, answer, outputs)))


def _with_draws(
    pair: Pair, case: Case, tolerance: float | None, outputs: tuple[Compared, ...]
) -> Judgement:
    """Compared once more, MLX being given what torch draws."""
    told: list[Drawn] = []

    @contextmanager
    def listening() -> Iterator[None]:
        with noting() as drawn:
            told.append(drawn)
            yield

    answer = pair.torch(case, listening)
    places, way, ways = told[0].places, 0, 1
    while way < ways:
        drawn = told[0].again(way)
        try:
            found = pair.mlx(case, lambda: giving(drawn))  # noqa: B023 (called at once)
        except Unmatched as why:
            return _incomparable(outputs, places, f"{why}, which torch does not")
        outputs = compare(answer.parts, found, tolerance)
        if all(o.ok for o in outputs):
            return Judgement(outputs, (f"MLX was given torch's random numbers: {places}",))
        way, ways = way + 1, drawn.ways
    if drawn.draws or not drawn.sure or ways > 1:
        return _incomparable(outputs, places, "the draws could not be matched one by one")
    return Judgement(outputs)


def _incomparable(outputs: tuple[Compared, ...], places: str, why: str) -> Judgement:
    reason = f"it depends on random numbers ({places or 'torch'}); {why}"
    return Judgement(judged(outputs, "incomparable", dict.fromkeys(off(outputs), reason)))


def _fixed(pair: Pair, case: Case, answer: Answer) -> str:
    """That the outputs depend on numbers of Python's or numpy's streams, if they do: an exported
    program has these as constants."""
    others = sorted(answer.drew - {"torch"})
    if not others:
        return ""
    for seed in range(3):
        again = pair.torch(case, _seeded(seed))
        if not agree(answer.parts, again.parts):
            return (
                f"the forward draws with {' and '.join(others)}'s random module, and torch.export "
                "makes constants of these numbers: draw with torch.rand"
            )
    return ""


def _seeded(seed: int) -> Callable[[], Any]:
    @contextmanager
    def around() -> Iterator[None]:
        random.seed(seed)
        np.random.seed(seed)
        yield

    return around
