"""Learning rate schedules with torch's arguments and `step()`: they set the optimizer's rate.

ParameterGroups have a rate per group: each is scheduled from its own start.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from torch2mlx.kit.optimizers import set_momentum

Factor = Callable[[int], float]


class Scheduler:
    """Sets the rates after each step: `after(n, rate)` from the rate that is set when the n-th step
    is made, which others may have changed; `rate(n)` from the first rate alone, for `step(n)`."""

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        self.optimizers = getattr(optimizer, "optimizers", [optimizer])
        self.bases = [_first_rate(each) for each in self.optimizers]
        self.last = [float(each.learning_rate) for each in self.optimizers]
        self.last_epoch = last_epoch + 1
        if last_epoch == -1:
            self._go_on()
        else:
            self._apply()

    def rate(self, n: int, group: int = 0) -> float:
        """The learning rate after n steps."""
        raise NotImplementedError

    def after(self, n: int, rate: float, group: int = 0) -> float:
        """The learning rate that the n-th step makes of the one that is set."""
        return self.rate(n, group)

    def _apply(self) -> None:
        self._set([self.rate(self.last_epoch, i) for i in range(len(self.bases))])

    def _go_on(self) -> None:
        rates = enumerate(self._current())
        self._set([self.after(self.last_epoch, rate, i) for i, rate in rates])

    def _current(self) -> list[float]:
        """The rates that are set: MLX keeps them in float32, this schedule's own are exact."""
        found = [float(each.learning_rate) for each in self.optimizers]
        pairs = zip(self.last, found, strict=True)
        return [own if np.float32(own) == np.float32(now) else now for own, now in pairs]

    def _set(self, rates: list[float]) -> None:
        self.last = rates
        for optimizer, rate in zip(self.optimizers, rates, strict=True):
            optimizer.learning_rate = rate

    def step(self, epoch: Any = None) -> None:
        """Goes one step on, or to a step that is named."""
        if epoch is None:
            self.last_epoch += 1
            self._go_on()
        else:
            self.last_epoch = epoch
            self._apply()

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one per group."""
        return list(self.last)

    def state_dict(self) -> dict[str, Any]:
        """Plain values, enough to go on."""
        held = {k: v for k, v in vars(self).items() if isinstance(v, (int, float, str, bool))}
        return {**held, "last": list(self.last), "bases": list(self.bases)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another stopped."""
        vars(self).update(state)
        self._set(self.last)


def _first_rate(optimizer: Any) -> float:
    """The rate that an optimizer had before its first schedule, from which all of them count."""
    return float(vars(optimizer).setdefault("_initial_lr", float(optimizer.learning_rate)))


class StepLR(Scheduler):
    """torch's StepLR: times gamma every step_size steps."""

    def __init__(
        self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        return self.bases[group] * self.gamma ** (n // self.step_size)

    def after(self, n: int, rate: float, group: int = 0) -> float:
        return rate if n == 0 or n % self.step_size else rate * self.gamma


class MultiStepLR(Scheduler):
    """torch's MultiStepLR: times gamma at each milestone."""

    def __init__(
        self, optimizer: Any, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = list(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        return self.bases[group] * self.gamma ** sum(m <= n for m in self.milestones)

    def after(self, n: int, rate: float, group: int = 0) -> float:
        return rate * self.gamma ** self.milestones.count(n)


class ExponentialLR(Scheduler):
    """torch's ExponentialLR."""

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        return self.bases[group] * self.gamma**n

    def after(self, n: int, rate: float, group: int = 0) -> float:
        return rate * self.gamma if n else rate


class CosineAnnealingLR(Scheduler):
    """torch's CosineAnnealingLR."""

    def __init__(
        self, optimizer: Any, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        wave = (1 + math.cos(math.pi * n / self.T_max)) / 2
        return self.eta_min + (self.bases[group] - self.eta_min) * wave

    def after(self, n: int, rate: float, group: int = 0) -> float:
        if n == 0:
            return rate
        turn = math.pi / self.T_max
        if (n - 1 - self.T_max) % (2 * self.T_max) == 0:  # the wave was at its lowest
            return rate + (self.bases[group] - self.eta_min) * (1 - math.cos(turn)) / 2
        grown = (1 + math.cos(turn * n)) / (1 + math.cos(turn * (n - 1)))
        return self.eta_min + (rate - self.eta_min) * grown


class CosineAnnealingWarmRestarts(Scheduler):
    """torch's CosineAnnealingWarmRestarts."""

    def __init__(
        self, optimizer: Any, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        length = self.T_0
        while n >= length:  # n may be a part of an epoch
            n, length = n - length, length * self.T_mult
        wave = (1 + math.cos(math.pi * n / length)) / 2
        return self.eta_min + (self.bases[group] - self.eta_min) * wave


class LambdaLR(Scheduler):
    """torch's LambdaLR: the base rate times a function of the step."""

    def __init__(
        self, optimizer: Any, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1
    ) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer, last_epoch)

    def factor(self, n: int, group: int) -> float:
        """What the function of a group answers."""
        given = self.lr_lambda
        return (given if callable(given) else given[group])(n)

    def rate(self, n: int, group: int = 0) -> float:
        return self.bases[group] * self.factor(n, group)


class MultiplicativeLR(LambdaLR):
    """torch's MultiplicativeLR: times a function of the step, each time."""

    def rate(self, n: int, group: int = 0) -> float:
        # torch has no closed form either: step(n) goes on from the rate that is set
        return self.after(n, self._current()[group], group)

    def after(self, n: int, rate: float, group: int = 0) -> float:
        return rate * self.factor(n, group) if n else rate


class LinearLR(Scheduler):
    """torch's LinearLR."""

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start, self.end, self.total = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        part = min(n, self.total) / self.total
        return self.bases[group] * (self.start + (self.end - self.start) * part)

    def after(self, n: int, rate: float, group: int = 0) -> float:
        if n == 0:
            return rate * self.start
        rise = self.end - self.start
        part = rise / (self.total * self.start + (n - 1) * rise) if n <= self.total else 0.0
        return rate * (1 + part)


class ConstantLR(Scheduler):
    """torch's ConstantLR."""

    def __init__(
        self, optimizer: Any, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self.factor, self.total = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        return self.bases[group] * (self.factor if n < self.total else 1.0)

    def after(self, n: int, rate: float, group: int = 0) -> float:
        if n == 0:
            return rate * self.factor
        return rate if n != self.total else rate / self.factor


class PolynomialLR(Scheduler):
    """torch's PolynomialLR."""

    def __init__(
        self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def rate(self, n: int, group: int = 0) -> float:
        return self.bases[group] * (1 - min(n, self.total) / self.total) ** self.power

    def after(self, n: int, rate: float, group: int = 0) -> float:
        if n == 0 or n > self.total:
            return rate
        fallen = (1 - n / self.total) / (1 - (n - 1) / self.total)
        return float(rate * fallen**self.power)


class _Cycle(Scheduler):
    """A schedule that moves momentum, or Adam's first beta, too, where `cycles` says so."""

    cycles: bool

    def momentum(self, n: int) -> float:
        """The momentum after n steps."""
        raise NotImplementedError

    def _set(self, rates: list[float]) -> None:
        super()._set(rates)
        for optimizer in self.optimizers if self.cycles else ():
            set_momentum(optimizer, self.momentum(self.last_epoch))


class OneCycleLR(_Cycle):
    """torch's OneCycleLR: up to max_lr and down again; momentum, or Adam's first beta, the other
    way round unless `cycle_momentum` is False."""

    def __init__(
        self,
        optimizer: Any,
        max_lr: Any,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.total = total_steps or (epochs or 0) * (steps_per_epoch or 0)
        self.tops = list(max_lr) if isinstance(max_lr, (list, tuple)) else [max_lr]
        self.cosine, self.cycles = anneal_strategy == "cos", cycle_momentum
        self.slow, self.fast = base_momentum, max_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.up = pct_start * self.total - 1
        super().__init__(optimizer)

    def _between(self, a: float, b: float, part: float) -> float:
        if self.cosine:
            return b + (a - b) / 2 * (1 + math.cos(math.pi * part))
        return (b - a) * part + a

    def _phase(self, n: int, start: float, middle: float, end: float) -> float:
        if n <= self.up:
            return self._between(start, middle, n / self.up)
        return self._between(middle, end, (n - self.up) / (self.total - 1 - self.up))

    def rate(self, n: int, group: int = 0) -> float:
        top = self.tops[group % len(self.tops)]
        low = top / self.div_factor
        return self._phase(n, low, top, low / self.final_div_factor)

    def momentum(self, n: int) -> float:
        return self._phase(n, self.fast, self.slow, self.fast)


class CyclicLR(_Cycle):
    """torch's CyclicLR: up to max_lr and down again, over and over; momentum, or Adam's first beta,
    the other way round unless `cycle_momentum` is False."""

    def __init__(
        self,
        optimizer: Any,
        base_lr: Any,
        max_lr: Any,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        known: dict[str, tuple[Callable[[float], float], str]] = {
            "triangular": (lambda cycle: 1.0, "cycle"),
            "triangular2": (lambda cycle: 0.5 ** (cycle - 1), "cycle"),
            "exp_range": (lambda n: gamma**n, "iterations"),
        }
        if scale_fn is None and mode not in known:
            raise ValueError(f"mode={mode!r}: choose {', '.join(known)}, or give scale_fn")
        self.scale, self.scaled_by = (scale_fn, scale_mode) if scale_fn else known[mode]
        self.lows, self.tops = (
            list(given) if isinstance(given, (list, tuple)) else [given]
            for given in (base_lr, max_lr)
        )
        self.up = step_size_up
        self.total = step_size_up + (step_size_up if step_size_down is None else step_size_down)
        self.cycles, self.slow, self.fast = cycle_momentum, base_momentum, max_momentum
        super().__init__(optimizer, last_epoch)

    def _height(self, n: int) -> float:
        """How far between the lowest and the highest rate."""
        cycle = math.floor(1 + n / self.total)
        place, top = 1 + n / self.total - cycle, self.up / self.total
        part = place / top if place <= top else (place - 1) / (top - 1)
        return part * self.scale(cycle if self.scaled_by == "cycle" else n)

    def rate(self, n: int, group: int = 0) -> float:
        low, top = (found[group % len(found)] for found in (self.lows, self.tops))
        return float(low + (top - low) * self._height(n))

    def momentum(self, n: int) -> float:
        return self.fast - (self.fast - self.slow) * self._height(n)


class SequentialLR(Scheduler):
    """torch's SequentialLR: one schedule after the other, each from its own start."""

    def __init__(
        self, optimizer: Any, schedulers: Sequence[Scheduler], milestones: Sequence[int]
    ) -> None:
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        first = self.schedulers[0]
        for each, base in zip(first.optimizers, first.bases, strict=True):
            each.learning_rate = base
        super().__init__(optimizer)

    def _go_on(self) -> None:
        at = bisect_right(self.milestones, self.last_epoch)
        now = self.schedulers[at]
        if self.last_epoch == 0:
            now.last_epoch = 0
            now._go_on()
        elif at and self.milestones[at - 1] == self.last_epoch:
            now.step(0)
        else:
            now.step()
        self.last = now.get_last_lr()


class ChainedScheduler:
    """torch's ChainedScheduler: several schedules of one optimizer, each after the other."""

    def __init__(self, schedulers: Sequence[Scheduler], optimizer: Any = None) -> None:
        self.schedulers = list(schedulers)
        self.optimizer = optimizer or self.schedulers[0].optimizer
        self.last = [float(each.learning_rate) for each in self.schedulers[0].optimizers]

    def step(self) -> None:
        """All of them go one step on."""
        for scheduler in self.schedulers:
            scheduler.step()
        self.last = self.schedulers[-1].get_last_lr()

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one per group."""
        return list(self.last)

    def state_dict(self) -> dict[str, Any]:
        """The states of the schedules."""
        return {"schedulers": [scheduler.state_dict() for scheduler in self.schedulers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another stopped."""
        for scheduler, held in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(held)
        self.last = self.schedulers[-1].get_last_lr()


class ReduceLROnPlateau(Scheduler):
    """torch's ReduceLROnPlateau: lower when a number stops getting better."""

    def __init__(
        self,
        optimizer: Any,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.sign = 1 if mode == "min" else -1
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.relative, self.cooldown, self.min_lr = threshold_mode == "rel", cooldown, min_lr
        self.eps, self.best, self.bad, self.resting = eps, math.inf * self.sign, 0, 0
        super().__init__(optimizer)

    def rate(self, n: int, group: int = 0) -> float:
        return self.bases[group]

    def after(self, n: int, rate: float, group: int = 0) -> float:
        return rate

    def _better(self, value: float) -> bool:
        if math.isinf(self.best):
            return True
        margin = abs(self.best) * self.threshold if self.relative else self.threshold
        return self.sign * (self.best - value) > margin

    def step(self, metrics: Any = None) -> None:
        """Looks at the number, and lowers the rate when it has been no better for too long."""
        value, self.last_epoch = float(metrics), self.last_epoch + 1
        if self._better(value):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.resting > 0:
            self.resting, self.bad = self.resting - 1, 0
        if self.bad > self.patience:
            current = self._current()
            lower = [max(rate * self.factor, self.min_lr) for rate in current]
            pairs = zip(current, lower, strict=True)
            self._set([new if old - new > self.eps else old for old, new in pairs])
            self.resting, self.bad = self.cooldown, 0
