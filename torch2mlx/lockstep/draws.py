"""Random draws of torch, served to MLX in order: for each kind of draw a row of its own.

Draws are kept as what distributions share: standard normal numbers, uniform ones in [0, 1),
masks, whole numbers, permutations, chosen places. Location and scale are the script's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np

#: What a draw of one kind may be served from, each with the function that makes it.
_MADE_FROM: dict[str, dict[str, Any]] = {
    "bernoulli": {"uniform": lambda v, p: v < p.get("p", 0.5)},
    "uniform": {"exponential": lambda v, p: 1 - np.exp(-v)},
    "gumbel": {
        "exponential": lambda v, p: -np.log(v),
        "categorical": lambda v, p: v,
    },
}


class Stream:
    """The draws of a torch script. `served` says what became of each request, in order."""

    def __init__(self, draws: list[dict[str, Any]], start: int) -> None:
        self.draws = draws
        self.before = [d for d in range(start) if not draws[d]["weights"]]
        self.after = list(range(start, len(draws)))
        self.used: set[int] = set()
        self.served: list[dict[str, Any]] = []

    def ask(
        self, kind: str, shape: tuple[int, ...], options: dict[str, Any], told: dict[str, Any]
    ) -> np.ndarray | None:
        """The values of the next draw of a kind, or None where torch has no such draw there.

        `told`: what is known of the request: "line", "module", "step", "soft" (not missed when
        torch has none), "early" (before the first step).
        """
        found, how = self._next(kind, shape)
        note = {"kind": kind, "shape": list(shape), "options": options, **told, "torch": found}
        self.served.append(note)
        if found is None:
            return None
        self.used.add(found)
        values = self.draws[found]["values"]
        if how is not None:
            values = how(np.asarray(values), options)
        if kind == "gumbel" and self.draws[found]["kind"] == "categorical":
            return _winning(values, shape)
        return laid(np.asarray(values), shape)

    def _next(self, kind: str, shape: tuple[int, ...]) -> tuple[int | None, Any]:
        for row in (self.before, self.after):
            for number in row:
                draw = self.draws[number]
                how = _MADE_FROM.get(kind, {}).get(draw["kind"])
                if number in self.used or (draw["kind"] != kind and how is None):
                    continue
                if kind == "gumbel" and draw["kind"] == "categorical":
                    return number, how
                if fits(np.shape(draw["values"]), shape):
                    return number, how
                skipped = draw.get("soft") or draw["weights"]
                if row is self.after and draw["kind"] == kind and not skipped:
                    break  # the next of this kind has another shape: nothing further on is meant
        return None, None

    def state(self) -> tuple[frozenset[int], int]:
        """Enough to go back to this place."""
        return frozenset(self.used), len(self.served)

    def restore(self, state: tuple[frozenset[int], int]) -> None:
        """Goes back: the draws since then are served again, and told once."""
        self.used = set(state[0])
        del self.served[state[1] :]


def _winning(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Noise that makes given places the largest of their rows, the first place first."""
    noise = np.zeros((math.prod(shape[:-1]), shape[-1]), np.float32)
    rows = places.reshape(noise.shape[0], -1)
    for rank in range(rows.shape[1]):
        noise[np.arange(len(rows)), rows[:, rank]] = 1e6 * (rows.shape[1] - rank)
    return noise.reshape(shape)


def orders(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the axes of one shape that give another: as it is, channels last, any."""
    if len(shape) != len(wanted):
        return
    rank = len(shape)
    usual = [tuple(range(rank))]
    if rank >= 3:
        usual += [
            (0, *range(2, rank), 1),
            (*range(1, rank - 1), 0, rank - 1),
            (1, 0, *range(2, rank)),
        ]
    more = permutations(range(rank)) if rank <= 5 else ()
    seen = set()
    for order in (*usual, *more):
        if order not in seen and tuple(shape[i] for i in order) == tuple(wanted):
            seen.add(order)
            yield order


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether values of one shape may stand in another: other axes, or axes of length 1 more."""
    ones = [n for n in shape if n != 1], [n for n in wanted if n != 1]
    return sorted(ones[0]) == sorted(ones[1])


def laid(values: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """Values in another shape that they fit."""
    for order in orders(values.shape, wanted):
        return values.transpose(order)
    small = values.reshape([n for n in values.shape if n != 1])
    for order in orders(small.shape, tuple(n for n in wanted if n != 1)):
        return small.transpose(order).reshape(wanted)
    return values.reshape(wanted)
