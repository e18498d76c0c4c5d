"""torch.optim.LBFGS: steps that evaluate the loss several times, through a closure.

Source of the formulas: torch.optim.LBFGS (2.13), and for the line search the algorithms 3.5 and 3.6
of Nocedal and Wright, "Numerical Optimization", with the cubic interpolation of (3.59).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_unflatten

from torch2mlx.kit.stubs import tree_flatten

_WITHOUT = "LBFGS evaluates the loss several times a step: use step(closure)"
#: A step length, and the loss, the gradient and the slope along the direction there.
_Point = tuple[float, float, mx.array, float]
#: Loss and gradient at a vector of parameters.
_Evaluated = Callable[[mx.array], tuple[float, mx.array]]


class LBFGS(Optimizer):
    """torch's LBFGS. `step(closure)` calls the closure as often as it needs to: it computes a loss,
    gives the gradient to `update(model, gradients)` and answers the loss. `update` only takes the
    gradient. The answer is the first loss.

    The history is that of all parameters as one vector, so there are no groups; it is in `state`.
    """

    def __init__(
        self,
        lr: Any = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        super().__init__()
        self._maybe_schedule("learning_rate", lr)
        self.max_iter = max_iter
        self.max_eval = max_iter * 5 // 4 if max_eval is None else max_eval
        self.tolerance_grad, self.tolerance_change = tolerance_grad, tolerance_change
        self.history_size, self.line_search_fn = history_size, line_search_fn
        self._memory = _Memory()
        self._kept: Any = None  # the state that was made of the memory
        self.gradients: Any = None  # of the last evaluation
        self._model: Any = None
        self._closure: Callable[[], mx.array] | None = None

    def step(self, closure: Callable[[], mx.array]) -> mx.array:
        """Several iterations; the loss before the first of them."""
        if self._state.get("memory") is not self._kept:
            self._memory = _Memory.of(self._state["memory"])
        self._closure = closure
        try:
            loss = closure()
            if self._model is None:
                raise ValueError("the closure gave no gradient to update(model, gradients)")
            self._first = float(loss)
            model = self._model
            model.update(self.apply_gradients(self.gradients, model))
            self._state["memory"] = self._kept = self._memory.state()
            return loss
        finally:
            self._closure = None

    def update(self, model: nn.Module, gradients: dict) -> None:
        """Takes the gradient of one evaluation. Raises ValueError outside of `step`."""
        if self._closure is None:
            raise ValueError(_WITHOUT)
        self._model, self.gradients = model, gradients

    def apply_gradients(self, gradients: dict, parameters: Any) -> dict:
        """The parameters after one step of iterations, which starts with these gradients."""
        model, closure = self._model, self._closure
        if closure is None:
            raise ValueError(_WITHOUT)
        places = tree_flatten(model.trainable_parameters())
        start = _flat(places, dict(places))
        sizes = [(name, value.shape, value.dtype) for name, value in places]

        def evaluated(values: mx.array) -> tuple[float, mx.array]:
            model.update(_apart(values, sizes))
            loss = float(closure())
            return loss, _flat(places, self.gradients)

        first = self._first, _flat(places, gradients)
        return _apart(self._iterated(evaluated, start, *first), sizes)

    def _iterated(
        self, evaluated: _Evaluated, place: mx.array, loss: float, gradient: mx.array
    ) -> mx.array:
        """The vector of parameters after the iterations of a step."""
        memory, lr = self._memory, float(self.learning_rate)
        evaluations = 1
        for count in range(1, self.max_iter + 1):
            if _largest(gradient) <= self.tolerance_grad:
                break
            before, first = loss, memory.count == 0
            memory.turn(gradient, self.history_size)
            length = min(1.0, 1.0 / float(mx.abs(gradient).sum())) * lr if first else lr
            slope = _dot(gradient, memory.direction)
            memory.length = length
            if slope > -self.tolerance_change:
                break
            if self.line_search_fn is not None:
                left = self.max_eval - evaluations
                found, more = _searched(
                    evaluated, place, memory.direction, (length, loss, gradient, slope), left
                )
                memory.length, loss, gradient, _ = found
                place = place + memory.length * memory.direction
                evaluations += more
            else:
                place = place + memory.length * memory.direction
                if count == self.max_iter:
                    break
                loss, gradient = evaluated(place)
                evaluations += 1
            still = _largest(memory.direction * memory.length) <= self.tolerance_change
            if evaluations >= self.max_eval or still or abs(loss - before) < self.tolerance_change:
                break
        return place


@dataclass
class _Memory:
    """What is kept of earlier iterations: changes of the gradient, and the steps that made them."""

    count: int = 0
    direction: Any = None
    length: float = 0.0
    gradient: Any = None
    scale: Any = 1.0
    changes: list[mx.array] = field(default_factory=list)
    steps: list[mx.array] = field(default_factory=list)
    weights: list[mx.array] = field(default_factory=list)  # 1 / (change . step)

    def state(self) -> dict[str, Any]:
        """All of it as arrays; {} before the first iteration."""
        numbers = {"count": mx.array(self.count), "length": mx.array(self.length)}
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        held |= {**numbers, "scale": mx.array(self.scale)}
        return held if self.count else {}

    @classmethod
    def of(cls, state: dict[str, Any] | None) -> _Memory:
        """The memory that a state was made of."""
        if not state:
            return cls()
        numbers = {"count": int(state["count"]), "length": float(state["length"])}
        lists = {name: list(state[name]) for name in ("changes", "steps", "weights")}
        return cls(**{**state, **numbers, **lists})

    def turn(self, gradient: mx.array, most: int) -> None:
        """The direction from here: the gradient, times what is known of the inverse Hessian."""
        if self.count:
            change, step = gradient - self.gradient, self.direction * self.length
            curvature = (change * step).sum()
            if curvature.item() > 1e-10:
                for kept in (self.changes, self.steps, self.weights):
                    del kept[: max(0, len(kept) - most + 1)]
                self.changes.append(change)
                self.steps.append(step)
                self.weights.append(1.0 / curvature)
                self.scale = curvature / mx.square(change).sum()
        self.direction = self._turned(-gradient) if self.count else -gradient
        self.gradient = gradient
        self.count += 1

    def _turned(self, q: mx.array) -> mx.array:
        """The two loops of L-BFGS."""
        held = list(zip(self.changes, self.steps, self.weights, strict=True))
        shares = []
        for change, step, weight in reversed(held):
            shares.append((step * q).sum() * weight)
            q = q - shares[-1] * change
        q = q * self.scale
        for (change, step, weight), share in zip(held, reversed(shares), strict=True):
            q = q + step * (share - (change * q).sum() * weight)
        return q


def _flat(places: list[tuple[str, mx.array]], values: Any) -> mx.array:
    """The arrays of a tree as one vector, in the order of `places`; zeros where it has none."""
    held = dict(tree_flatten(values))
    parts = [held.get(name, mx.zeros_like(value)).reshape(-1) for name, value in places]
    return mx.concatenate(parts)


def _apart(vector: mx.array, sizes: list[tuple[str, tuple[int, ...], Any]]) -> Any:
    """The tree of arrays that a vector was made of."""
    found, place = [], 0
    for name, shape, dtype in sizes:
        end = place + math.prod(shape)
        found.append((name, vector[place:end].reshape(shape).astype(dtype)))
        place = end
    return tree_unflatten(found)


def _dot(a: mx.array, b: mx.array) -> float:
    return float((a * b).sum())


def _largest(x: mx.array) -> float:
    return float(mx.abs(x).max())


def _searched(
    evaluated: _Evaluated, place: mx.array, direction: mx.array, start: _Point, most: int
) -> tuple[_Point, int]:
    """A step where the strong Wolfe conditions hold, and how often was evaluated. `start` has the
    length to begin with, and loss, gradient and slope of the place."""

    def at(length: float) -> _Point:
        value, there = evaluated(place + length * direction)
        return length, value, there, _dot(there, direction)

    length, loss, gradient, slope = start
    search = _Search((0.0, loss, gradient, slope), _largest(direction), most)
    return search.found(at, length), search.count


@dataclass
class _Search:
    """A line search between brackets, as torch has it; `start` is the place where it begins."""

    start: _Point
    size: float  # of the direction's largest item
    most: int
    count: int = 0
    rounds: int = 0

    def found(self, at: Callable[[float], _Point], length: float) -> _Point:
        """The point that is taken."""
        bracket, done = self._bracketed(at, length)
        low, high = (0, -1) if bracket[0][1] <= bracket[-1][1] else (-1, 0)
        stuck = False
        while not done and self.rounds < self.most:
            ends = [point[0] for point in bracket]
            if abs(ends[1] - ends[0]) * self.size < 1e-9:
                break
            length, stuck = _kept_apart(_interpolated(bracket[0], bracket[1]), ends, stuck)
            new = at(length)
            self.count += 1
            self.rounds += 1
            if self._too_high(new) or new[1] >= bracket[low][1]:
                bracket[high] = new
                low, high = (0, -1) if bracket[0][1] <= bracket[1][1] else (-1, 0)
                continue
            done = self._flat_enough(new)
            if not done and new[3] * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = new
        return bracket[low]

    def _bracketed(self, at: Callable[[float], _Point], length: float) -> tuple[list[_Point], bool]:
        """Two points between which there is one that holds, or that one."""
        before, new = self.start, at(length)
        self.count = 1
        while self.rounds < self.most:
            if self._too_high(new) or (self.rounds > 1 and new[1] >= before[1]):
                return [before, new], False
            if self._flat_enough(new):
                return [new], True
            if new[3] >= 0:
                return [before, new], False
            nearest, farthest = new[0] + 0.01 * (new[0] - before[0]), new[0] * 10
            length = _interpolated(before, new, (nearest, farthest))
            before, new = new, at(length)
            self.count += 1
            self.rounds += 1
        return [self.start, new], False

    def _too_high(self, point: _Point) -> bool:
        return point[1] > self.start[1] + 1e-4 * point[0] * self.start[3]

    def _flat_enough(self, point: _Point) -> bool:
        return abs(point[3]) <= -0.9 * self.start[3]


def _kept_apart(length: float, ends: list[float], stuck: bool) -> tuple[float, bool]:
    """A length that is not too near to the ends of a bracket twice in a row."""
    low, high = min(ends), max(ends)
    room = 0.1 * (high - low)
    if min(high - length, length - low) >= room:
        return length, False
    if not (stuck or length >= high or length <= low):
        return length, True
    return (high - room if abs(length - high) < abs(length - low) else low + room), False


def _interpolated(one: _Point, other: _Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two points with slopes is lowest, within bounds."""
    low, high = bounds or (min(one[0], other[0]), max(one[0], other[0]))
    (x1, f1, _, g1), (x2, f2, _, g2) = one, other
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1**2 - g1 * g2
    if square < 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    if x1 <= x2:
        best = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        best = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(best, low), high)
