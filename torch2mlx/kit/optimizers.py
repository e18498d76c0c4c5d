"""Optimizers with torch's update rules and arguments, where mlx.optimizers has none or another.

Sources of the formulas: the algorithm boxes in the documentation of torch.optim (2.13). Each keeps
its state per parameter as mlx.optimizers does, so `optimizer.update(model, gradients)`,
`optimizer.state` and schedules work as usual.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Any

import mlx.core as mx
from mlx.optimizers import Optimizer

from torch2mlx.kit.lbfgs import LBFGS as LBFGS


class Unported:
    """The base of what was an optimizer of torch: making one is a NotImplementedError."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError(
            f"{type(self).__name__} steps parameters in place; write it as a subclass of "
            "mlx.optimizers.Optimizer, whose apply_single answers the new parameter"
        )


def named(name: str) -> Any:
    """The optimizer that torch.optim has under a name, without what takes closures or has no
    counterpart."""
    found = globals().get(name)
    known = isinstance(found, type) and issubclass(found, _Torch) and found is not _Torch
    if not known:
        raise NotImplementedError(f"torch.optim.{name}: no counterpart that is asked for by name")
    return found


class _Torch(Optimizer):
    """What they share: the learning rate, weight decay that is added to the gradient, maximize."""

    _slots: tuple[str, ...] = ()

    def __init__(self, lr: Any, weight_decay: float = 0.0, maximize: bool = False) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", lr)
        self.weight_decay, self.maximize = weight_decay, maximize

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """Zeros for every slot."""
        for name in self._slots:
            state[name] = mx.zeros_like(parameter)
        state["t"] = mx.array(0, mx.int64)

    def update(self, model: Any, gradients: dict) -> None:
        """One step of the parameters that have a gradient, of which some may be new."""
        if self._initialized:
            gradients = _as_long(gradients, self.state)
            self.init(gradients)
        super().update(model, gradients)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """The parameter after one step."""
        gradient = -gradient if self.maximize else gradient
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        state["t"] = state["t"].astype(mx.int64) + 1  # int32: from torch, and not stepped since
        lr = self.learning_rate.astype(gradient.dtype)
        return self._step(gradient, parameter, state, lr)

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        raise NotImplementedError


def _as_long(gradients: Any, state: Any) -> Any:
    """The gradients with empty places where lists of the state are longer: what is last in a list
    may have no gradient now."""
    if isinstance(gradients, dict):
        held = state if isinstance(state, dict) else {}
        return {key: _as_long(value, held.get(key)) for key, value in gradients.items()}
    if isinstance(gradients, list):
        pairs = zip_longest(gradients, state if isinstance(state, list) else [])
        return [{} if value is None else _as_long(value, kept) for value, kept in pairs]
    return gradients


class SGD(_Torch):
    """torch.optim.SGD: the first step takes the gradient undamped."""

    _slots = ("v",)

    def __init__(
        self,
        lr: Any = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay, maximize)
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        if not self.momentum:
            return parameter - lr * gradient
        damped = mx.where(state["t"] == 1, gradient, (1 - self.dampening) * gradient)
        state["v"] = self.momentum * state["v"] + damped
        step = gradient + self.momentum * state["v"] if self.nesterov else state["v"]
        return parameter - lr * step


class Adam(_Torch):
    """torch.optim.Adam: weight decay goes through the moments; amsgrad keeps the largest."""

    _slots = ("m", "v", "largest")

    def __init__(
        self,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay, maximize)
        self.betas, self.eps, self.amsgrad = betas, eps, amsgrad

    def _corrected(self, gradient: Any, state: dict) -> tuple[mx.array, mx.array]:
        b1, b2 = self.betas
        state["m"] = b1 * state["m"] + (1 - b1) * gradient
        state["v"] = b2 * state["v"] + (1 - b2) * mx.square(gradient)
        t = state["t"].astype(mx.float32)
        second = state["v"]
        if self.amsgrad:
            second = state["largest"] = mx.maximum(state["largest"], second)
        second = mx.sqrt(second) / mx.sqrt(1 - mx.power(b2, t)) + self.eps
        return state["m"] / (1 - mx.power(b1, t)), second.astype(gradient.dtype)

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        first, second = self._corrected(gradient, state)
        return parameter - lr * first / second


class AdamW(Adam):
    """torch.optim.AdamW: weight decay shrinks the parameter itself."""

    def __init__(
        self,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(lr, betas, eps, 0.0, amsgrad, maximize=maximize)
        self.decay = weight_decay

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        return super()._step(gradient, parameter * (1 - lr * self.decay), state, lr)


class NAdam(Adam):
    """torch.optim.NAdam: Adam with Nesterov's momentum."""

    def __init__(
        self,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)
        self.momentum_decay = momentum_decay

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """The product of the momenta starts at 1."""
        super().init_single(parameter, state)
        state["product"] = mx.array(1.0)

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        (b1, b2), t = self.betas, state["t"].astype(mx.float32)
        mu = b1 * (1 - 0.5 * mx.power(0.96, t * self.momentum_decay))
        after = b1 * (1 - 0.5 * mx.power(0.96, (t + 1) * self.momentum_decay))
        state["product"] = state["product"] * mu
        state["m"] = b1 * state["m"] + (1 - b1) * gradient
        state["v"] = b2 * state["v"] + (1 - b2) * mx.square(gradient)
        below = mx.sqrt(state["v"] / (1 - mx.power(b2, t))) + self.eps
        parameter = parameter - lr * (1 - mu) / (1 - state["product"]) * gradient / below
        return parameter - lr * after / (1 - state["product"] * after) * state["m"] / below


class RAdam(Adam):
    """torch.optim.RAdam: Adam's step once its variance can be told, momentum's before."""

    def __init__(
        self,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(lr, betas, eps, 0.0 if decoupled_weight_decay else weight_decay)
        self.decay = weight_decay if decoupled_weight_decay else 0.0

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        (b1, b2), t = self.betas, state["t"].astype(mx.float32)
        state["m"] = b1 * state["m"] + (1 - b1) * gradient
        state["v"] = b2 * state["v"] + (1 - b2) * mx.square(gradient)
        longest = 2 / (1 - b2) - 1
        length = self._length(t)
        over = (longest - 4) * (longest - 2) * length
        rectified = mx.sqrt(mx.maximum((length - 4) * (length - 2) * longest / over, 0))
        step = rectified * mx.sqrt(1 - mx.power(b2, t)) / (mx.sqrt(state["v"]) + self.eps)
        parameter = parameter * (1 - lr * self.decay)
        return parameter - lr * state["m"] / (1 - mx.power(b1, t)) * mx.where(length > 5, step, 1.0)

    def _length(self, t: mx.array) -> mx.array:
        """2 / (1 - b2) - 1 - 2 t b2^t / (1 - b2^t), which float32 would lose in differences."""
        rate = -math.log(self.betas[1])
        s = rate * t
        series = s / 2 - s**2 / 12 + s**4 / 720 - s**6 / 30240  # 1 - s / (e^s - 1)
        lost = mx.where(s < 0.5, series, 1 - s / mx.expm1(mx.maximum(s, 0.5)))
        return 2 / (1 - self.betas[1]) - 1 - 2 / rate + 2 / rate * lost


class Adamax(Adam):
    """torch.optim.Adamax: the second moment is a running maximum."""

    def __init__(
        self,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        b1, b2 = self.betas
        state["m"] = b1 * state["m"] + (1 - b1) * gradient
        state["v"] = mx.maximum(b2 * state["v"], mx.abs(gradient) + self.eps)
        corrected = lr / (1 - mx.power(b1, state["t"].astype(mx.float32)))
        return parameter - corrected * state["m"] / state["v"]


class RMSprop(_Torch):
    """torch.optim.RMSprop, momentum and centered included."""

    _slots = ("v", "mean", "buffer")

    def __init__(
        self,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.alpha, self.eps, self.momentum, self.centered = alpha, eps, momentum, centered

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        a = self.alpha
        state["v"] = a * state["v"] + (1 - a) * mx.square(gradient)
        second = state["v"]
        if self.centered:
            state["mean"] = a * state["mean"] + (1 - a) * gradient
            second = second - mx.square(state["mean"])
        step = gradient / (mx.sqrt(second) + self.eps)
        if self.momentum:
            step = state["buffer"] = self.momentum * state["buffer"] + step
        return parameter - lr * step


class Adagrad(_Torch):
    """torch.optim.Adagrad, with its decay of the rate."""

    _slots = ("v",)

    def __init__(
        self,
        lr: Any = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.lr_decay, self.start, self.eps = lr_decay, initial_accumulator_value, eps

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """The sum of squares starts where it was told to."""
        super().init_single(parameter, state)
        state["v"] = state["v"] + self.start

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        state["v"] = state["v"] + mx.square(gradient)
        rate = lr / (1 + (state["t"].astype(mx.float32) - 1) * self.lr_decay)
        return parameter - rate * gradient / (mx.sqrt(state["v"]) + self.eps)


class Adadelta(_Torch):
    """torch.optim.Adadelta."""

    _slots = ("v", "u")

    def __init__(
        self, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr, weight_decay)
        self.rho, self.eps = rho, eps

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        state["v"] = self.rho * state["v"] + (1 - self.rho) * mx.square(gradient)
        step = mx.sqrt(state["u"] + self.eps) / mx.sqrt(state["v"] + self.eps) * gradient
        state["u"] = self.rho * state["u"] + (1 - self.rho) * mx.square(step)
        return parameter - lr * step


def set_momentum(optimizer: Any, value: float) -> None:
    """Sets momentum, or the first beta. Raises ValueError, as torch does, where neither is."""
    if hasattr(optimizer, "betas"):
        optimizer.betas = (value, *optimizer.betas[1:])
    elif hasattr(optimizer, "momentum"):
        optimizer.momentum = value
    else:
        raise ValueError("OneCycleLR with cycle_momentum needs momentum or betas")
