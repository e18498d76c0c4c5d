"""One step of both scripts, every number of it compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torch2mlx.lockstep.kinks import turned
from torch2mlx.lockstep.numbers import GRADIENTS, UPDATES, VALUES, allowed, apart, relative, size
from torch2mlx.lockstep.pairing import Call, Sides, Step, merged, paired, tensors

#: Slots of torch's optimizers, and what MLX's call them.
SLOTS = {
    "exp_avg": "m",
    "exp_avg_sq": "v",
    "exp_inf": "v",
    "momentum_buffer": "v",
    "square_avg": "v",
    "sum": "v",
    "acc_delta": "u",
    "max_exp_avg_sq": "largest",
    "grad_avg": "mean",
}
#: The order of "momentum_buffer" in RMSprop is another: there "v" is the mean of squares.
_RMSPROP = {"square_avg": "v", "momentum_buffer": "buffer", "grad_avg": "mean"}


@dataclass(frozen=True)
class Off:
    """A number that differs: its name in torch, both values, how far apart they are."""

    name: str
    torch: Any
    mlx: Any
    apart: float


@dataclass
class Compared:
    """A step's numbers, by kind: what differs, and the largest difference of all."""

    torch: Step
    mlx: Step
    calls: list[tuple[int, Call, Call]]
    off: dict[str, list[Off]] = field(default_factory=dict)
    largest: dict[str, float | None] = field(default_factory=dict)
    within: dict[str, float] = field(default_factory=dict)  # the largest of those that agree

    @property
    def by_hand(self) -> bool:
        """Whether MLX's script updates its models itself: what reaches the update is not seen."""
        return not self.mlx["optimizer"]["kind"]

    def put(self, kind: str, name: str, values: tuple[Any, Any], found: float, room: float) -> None:
        """Notes one comparison."""
        held = self.largest.get(kind)
        self.largest[kind] = found if held is None else max(held, found)
        if found <= room:
            self.within[kind] = max(self.within.get(kind, 0.0), found)
        else:
            self.off.setdefault(kind, []).append(Off(name, *values, found))


class Stepwise:
    """Compares steps one after the other; keeps what the models held before."""

    def __init__(self, both: Sides) -> None:
        self.both = both
        self.before = {
            "torch": tensors(both.torch["start"]["tensors"]),
            "noisy": tensors(both.noisy["start"]["tensors"]),
            "mlx": self._given(),
        }
        self.rounding: dict[str, bool] = {}  # by tensor: whether its gradient is nothing else
        self.turned: dict[str, float] = {}  # by tensor: how far turned items took its gradient
        self.unsure: dict[str, float] = {}  # by tensor: share of items whose gradient is rounding

    def _given(self) -> dict[str, np.ndarray]:
        """What MLX's arrays started from: torch's values."""
        torch = tensors(self.both.torch["start"]["tensors"])
        found = {}
        for root, name, values, *_ in self.both.mlx["start"]["tensors"]:
            key = f"{root}:{name}"
            if key in self.both.matches and values is not None:
                found[key] = self.both.matches[key].of(torch, values.shape)
            elif values is not None:
                found[key] = values
        return found

    def step(self, left: list[int], right: list[int]) -> Compared:
        """One step, of the numbers of steps of both sides."""
        torch = merged(self.both.torch["steps"], left)
        noisy = (
            merged(self.both.noisy["steps"], left)
            if left[-1] < len(self.both.noisy["steps"])
            else {}
        )
        mlx = merged(self.both.mlx["steps"], right)
        found = Compared(torch, mlx, self.calls(torch, mlx, noisy))
        self._outputs(found, noisy)
        _losses(found, noisy)
        for kind in ("raw",) if found.by_hand else ("gradients", "raw"):
            self._gradients(found, noisy, kind)
        self._slots(found, noisy)
        self._after(found, noisy)
        return found

    def calls(self, torch: Step, mlx: Step, noisy: Step) -> list[tuple[int, Call, Call]]:
        """Calls of modules, side by side."""

        def same(number: int, one: Call, other: Call) -> bool:
            pairs = self.differences(number, one, other, noisy, "outputs")
            return bool(pairs) and all(found <= room for found, room, *_ in pairs)

        return paired(self.both, torch["calls"], mlx["calls"], same)

    def differences(
        self, number: int, one: Call, other: Call, noisy: Step, which: str
    ) -> list[tuple[float, float, Any, Any]]:
        """(difference, what is allowed, both values) of a call's inputs or outputs.

        Of a part of a model the first output alone: layers answer more in their own ways.
        """
        again = noisy.get("calls", [])
        twin = again[number] if number < len(again) else {}
        found = []
        alike = not one["depth"] and len(one[which]) == len(other[which])
        last = 1 if which == "outputs" and not alike else None
        for place, values in enumerate(one[which][:last]):
            if place >= len(other[which]) or values is None or other[which][place] is None:
                continue
            mine = other[which][place]
            distance = apart(values, mine)
            if distance is not None:
                shaken = twin.get(which, [])
                room = allowed(VALUES, values, shaken[place] if place < len(shaken) else None)
                found.append((distance, room, values, mine))
        return found

    def _outputs(self, found: Compared, noisy: Step) -> None:
        for number, one, other in found.calls:
            for which in ("inputs", "outputs"):
                kind = "batch" if which == "inputs" and not one["depth"] else which
                for distance, room, *values in self.differences(number, one, other, noisy, which):
                    found.put(kind, str(number), (values[0], values[1]), distance, room)

    def _gradients(self, found: Compared, noisy: Step, kind: str) -> None:
        trained = found.torch["gradients"]
        values_apart = max(found.within.get(k, 0.0) for k in ("outputs", "batch", "losses"))
        bent = 3.0 * math.sqrt(turned(found.torch["kinks"], values_apart))
        held = {n: g for n, g in found.torch[kind].items() if n in trained}
        largest = max((size(g) for g in held.values() if g is not None), default=0.0)
        for name, mine in found.mlx[kind].items():
            match = self.both.matches.get(name)
            if match is None or mine is None:
                continue
            if not set(match.sources) & set(held):
                self._not_in_torch(found, kind, match.sources[0], mine, largest)
                continue
            values = match.of(held, mine.shape, mean=True)
            if values is None:
                continue
            floor = 1e-6 * largest
            nothing = size(values) <= floor and bool(size(values) or size(mine))
            self.rounding[match.sources[0]] = nothing
            again = match.of(noisy[kind], mine.shape, mean=True) if noisy else None
            room = allowed(GRADIENTS, values, again) + bent if size(values) > floor else 30.0
            distance = relative(values, mine, floor)
            found.put(kind, match.sources[0], (values, mine), distance, room)
            if distance <= room:
                before = self.unsure.get(match.sources[0], 0.0)
                self.unsure[match.sources[0]] = max(_unsure(values, mine), before)
            if GRADIENTS < distance <= room and bent:
                before = self.turned.get(match.sources[0], 0.0)
                self.turned[match.sources[0]] = max(distance, before)

    def _not_in_torch(
        self, found: Compared, kind: str, name: str, mine: Any, largest: float
    ) -> None:
        """A gradient that torch does not have: it must be zero, unless nobody steps with it."""
        if name.partition(":")[0] in {n.partition(":")[0] for n in found.torch["gradients"]}:
            distance = size(mine) / largest if largest else 0.0
            if distance > 1e-4:
                found.put(f"{kind} beyond torch's", name, (None, mine), distance, 0.0)

    def _slots(self, found: Compared, noisy: Step) -> None:
        kind = found.torch["optimizer"]["kind"]
        names = _RMSPROP if kind == "RMSprop" else SLOTS
        for name, slots in found.mlx["slots"].items():
            match = self.both.matches.get(name)
            for theirs, ours in names.items():
                mine = slots.get(ours)
                if match is None or mine is None or not np.ndim(mine):
                    continue
                held = {n: s[theirs] for n, s in found.torch["slots"].items() if theirs in s}
                values = match.of(held, mine.shape, mean=True)
                if values is None:
                    continue
                again = {n: s[theirs] for n, s in noisy.get("slots", {}).items() if theirs in s}
                room = allowed(UPDATES, values, match.of(again, mine.shape, mean=True))
                room += 4 * self.turned.get(match.sources[0], 0.0)
                room = math.inf if self.rounding.get(match.sources[0]) else room
                where = f"{match.sources[0]} {theirs}"
                found.put("slots", where, (values, mine), relative(values, mine, 1e-20), room)

    def _after(self, found: Compared, noisy: Step) -> None:
        """What the models hold now: trained tensors by how far they went, others as they are."""
        now = {
            "torch": tensors(found.torch["after"]),
            "noisy": tensors(noisy.get("after", [])),
            "mlx": tensors(found.mlx["after"]),
        }
        stepped = set(found.torch["gradients"])
        trainable = {
            f"{r}:{n}" for r, n, _, is_parameter, _ in found.torch["after"] if is_parameter
        }
        for name, mine in now["mlx"].items():
            match = self.both.matches.get(name)
            if match is None or self.before["mlx"].get(name) is None:
                continue
            values, was = (match.of(self._of(now, side), mine.shape) for side in ("torch", "noisy"))
            if values is None:
                continue
            if set(match.sources) & stepped:
                self._moved(found, match, name, now)
            else:
                kind = "parameters" if set(match.sources) & trainable else "buffers"
                room = allowed(VALUES * 5, values, was)
                if kind == "parameters" and _is_still(match, now, self.before, mine.shape):
                    room = VALUES / 5
                found.put(
                    kind, match.sources[0], (values, mine), relative(values, mine, 1e-8), room
                )
        self.before = {side: {**self.before[side], **held} for side, held in now.items()}
        for side, step in (("noisy", noisy), ("mlx", found.mlx)):
            self.before[side] |= step.get("resumed", {})

    @staticmethod
    def _of(now: Mapping[str, Any], side: str) -> Any:
        return now[side]

    def _moved(self, found: Compared, match: Any, name: str, now: Mapping[str, Any]) -> None:
        mine, shape = now["mlx"][name], now["mlx"][name].shape
        moved = {}
        for side in ("torch", "noisy"):
            after, before = (match.of(held[side], shape) for held in (now, self.before))
            moved[side] = None if after is None or before is None else after - before
        if moved["torch"] is None:
            return
        ours = mine - self.before["mlx"][name]
        rounding = 2.0**-23 * size(mine)
        far = size(moved["torch"])
        room = allowed(UPDATES, moved["torch"], moved["noisy"])
        room += 3 * rounding / far if far else 0.0
        room += 2 * math.sqrt(self.turned.get(match.sources[0], 0.0))
        room += 2 * math.sqrt(self.unsure.get(match.sources[0], 0.0))
        room = math.inf if self.rounding.get(match.sources[0]) else room
        distance = relative(moved["torch"], ours, rounding)
        found.put(
            "updates",
            match.sources[0],
            (moved["torch"], ours),
            distance,
            max(room, 3.0 if far < rounding else 0.0),
        )


def _is_still(match: Any, now: Any, before: Any, shape: Any) -> bool:
    """Whether a tensor of torch is what it was before the step."""
    after, was = match.of(now["torch"], shape), match.of(before["torch"], shape)
    return after is not None and was is not None and bool(np.array_equal(after, was))


def _unsure(torch: Any, mlx: Any) -> float:
    """The share of items that differ by a tenth of themselves in two gradients that agree: too
    small to count there, they may move the other way under Adam, which divides them by their size.
    """
    a, b = (np.asarray(v, np.float64).reshape(-1) for v in (torch, mlx))
    return float(np.mean(np.abs(a - b) > 0.1 * np.abs(a))) if a.size == b.size and a.size else 0.0


def _losses(found: Compared, noisy: Step) -> None:
    """Losses one by one where both sides have as many, else their sums."""
    theirs, ours = ([loss["value"] for loss in step["losses"]] for step in (found.torch, found.mlx))
    again = [loss["value"] for loss in noisy.get("losses", [])]
    if not theirs or not ours:
        return
    if len(theirs) != len(ours):
        theirs, ours, again = [sum(theirs)], [sum(ours)], [sum(again)]
    for place, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        c = again[place] if place < len(again) else None
        largest = max(abs(v) for v in theirs)
        room = allowed(VALUES, np.asarray(a), None if c is None else np.asarray(c))
        found.put("losses", str(place), (a, b), relative(a, b, max(largest * 0.1, 1e-6)), room)
