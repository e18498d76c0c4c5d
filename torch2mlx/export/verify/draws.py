"""Random numbers of a torch model, noted as they are drawn, and given to its MLX twin instead of
its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torch2mlx.export.ir.structures import numpy_of
from torch2mlx.export.verify.watching import Operator, watched


class Unmatched(Exception):
    """MLX asks for a random number that torch has not drawn."""


@dataclass(frozen=True)
class Draw:
    """What one call drew: the kind of MLX's function for it, the numbers, operator and line."""

    kind: str
    values: Any
    where: str


@dataclass
class Drawn:
    """torch's draws in order. `way` chooses between layouts that fit a shape equally; `ways` is
    how many there were to choose from; `sure` is False once draws were passed over; `given` counts
    those that MLX took."""

    draws: list[Draw] = field(default_factory=list)
    way: int = 0
    ways: int = 1
    sure: bool = True
    given: int = 0

    def again(self, way: int) -> Drawn:
        """The same draws from the start, laid the other way where that is open."""
        return Drawn(list(self.draws), way)

    @property
    def places(self) -> str:
        """Where the numbers were drawn, for a message."""
        return ", ".join(list(dict.fromkeys(draw.where for draw in self.draws))[:3])

    def next(self, kind: str, shape: tuple[int, ...]) -> Any:
        """The next draw of a kind, in a shape. Raises Unmatched where there is none."""
        while self.draws:
            draw = self.draws.pop(0)
            if draw.kind == kind:
                ways = _laid(draw.values, shape)
                if ways:
                    self.ways, self.given = max(self.ways, len(ways)), self.given + 1
                    return ways[min(self.way, len(ways) - 1)]
            self.sure = False  # one that MLX does not need, or the order is another
        raise Unmatched(f"MLX draws {kind} {shape}")


def _laid(values: Any, shape: tuple[int, ...]) -> list[Any]:
    """Numbers in another shape: as they are, with channels last, or with the first axes changed;
    different ones only."""
    ways = []
    if values.ndim > 2:
        ways += [np.moveaxis(values, 1, -1), np.swapaxes(values, 0, 1)]
    found = [way for way in (values, *ways) if way.shape == shape]
    if not found and values.size == math.prod(shape):
        return [values.reshape(shape)]
    return [f for i, f in enumerate(found) if not any(np.array_equal(f, g) for g in found[:i])]


def _normal(args: dict[str, Any], result: Any) -> Any:
    mean, std = args.get("mean", 0.0), args.get("std", 1.0)
    return numpy_of((result - mean) / std)


#: Operator -> kind of draw, and the numbers as MLX's function of that kind would answer them.
_NOTED: dict[str, tuple[str, Callable[[dict[str, Any], Any], Any]]] = {
    "bernoulli": ("bernoulli", lambda args, result: numpy_of(result) != 0),
    "native_dropout": ("bernoulli", lambda args, result: numpy_of(result[1]) != 0),
    "uniform": ("uniform", lambda args, result: numpy_of(result)),
    "rand": ("uniform", lambda args, result: numpy_of(result)),
    "rand_like": ("uniform", lambda args, result: numpy_of(result)),
    "exponential": (
        "uniform",
        lambda args, result: -np.expm1(-args.get("lambd", 1.0) * numpy_of(result)),
    ),
    "rrelu_with_noise": ("uniform", lambda args, result: numpy_of(args["noise"])),
    "randn": ("normal", lambda args, result: numpy_of(result)),
    "randn_like": ("normal", lambda args, result: numpy_of(result)),
    "normal": ("normal", _normal),
    "randint": ("randint", lambda args, result: numpy_of(result)),
    "randint_like": ("randint", lambda args, result: numpy_of(result)),
    "randperm": ("permutation", lambda args, result: numpy_of(result)),
    "multinomial": ("categorical", lambda args, result: numpy_of(result)),
}


@contextmanager
def noting() -> Iterator[Drawn]:
    """While open, torch's random operators are noted."""
    import torch

    drawn = Drawn()

    def note(operator: Operator, args: Any, kwargs: Any, result: Any) -> None:
        if torch.Tag.nondeterministic_seeded in getattr(operator.called, "tags", ()):
            _note(drawn, operator, args, kwargs, result)

    with watched(note):
        yield drawn


def _note(drawn: Drawn, operator: Operator, args: Any, kwargs: Any, result: Any) -> None:
    arguments = operator.called._schema.arguments
    given = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given |= dict(zip((a.name for a in arguments), args, strict=False)) | kwargs
    resting = given.get("train") is False or given.get("training") is False
    if resting or given.get("p") in (0, 1) or given.get("dropout_p") == 0:
        return  # nothing is left to chance
    kind, read = _NOTED.get(operator.name, (operator.name, lambda args, result: np.empty(0)))
    drawn.draws.append(Draw(kind, np.array(read(given, result)), operator.place))


@contextmanager
def giving(drawn: Drawn) -> Iterator[None]:
    """While open, MLX's random functions answer what torch drew. Their calls raise Unmatched where
    torch drew nothing of the kind."""
    import mlx.core as mx

    originals = {n: getattr(mx.random, n) for n in (*_GIVEN, *_UNKNOWN) if hasattr(mx.random, n)}
    try:
        for name in originals:
            setattr(mx.random, name, _GIVEN.get(name, _unknown(name))(drawn))
        yield
    finally:
        for name, original in originals.items():
            setattr(mx.random, name, original)


def _bernoulli(drawn: Drawn) -> Any:
    def bernoulli(p: Any = 0.5, shape: Any = None, key: Any = None, stream: Any = None) -> Any:
        import mlx.core as mx

        wanted = tuple(shape) if shape is not None else tuple(getattr(p, "shape", ()))
        if isinstance(p, (int, float)) and p in (0, 1):
            return mx.full(wanted, bool(p))
        return mx.array(drawn.next("bernoulli", wanted))

    return bernoulli


def _uniform(drawn: Drawn) -> Any:
    def uniform(
        low: Any = 0,
        high: Any = 1,
        shape: Any = (),
        dtype: Any = None,
        key: Any = None,
        stream: Any = None,
    ) -> Any:
        import mlx.core as mx

        return mx.array(drawn.next("uniform", tuple(shape))).astype(dtype or mx.float32)

    return uniform


def _standard_normal(drawn: Drawn) -> Any:
    def normal(
        shape: Any = (),
        dtype: Any = None,
        loc: Any = 0.0,
        scale: Any = 1.0,
        key: Any = None,
        stream: Any = None,
    ) -> Any:
        import mlx.core as mx

        return (
            mx.array(drawn.next("normal", tuple(shape))).astype(dtype or mx.float32) * scale + loc
        )

    return normal


def _randint(drawn: Drawn) -> Any:
    def randint(
        low: Any, high: Any, shape: Any = (), dtype: Any = None, key: Any = None, stream: Any = None
    ) -> Any:
        import mlx.core as mx

        return mx.array(drawn.next("randint", tuple(shape))).astype(dtype or mx.int32)

    return randint


def _permutation(drawn: Drawn) -> Any:
    def permutation(x: Any, axis: int = 0, key: Any = None, stream: Any = None) -> Any:
        import mlx.core as mx

        if not isinstance(x, int):
            raise Unmatched("MLX permutes an array")
        return mx.array(drawn.next("permutation", (x,)))

    return permutation


def _categorical(drawn: Drawn) -> Any:
    def categorical(
        logits: Any,
        axis: int = -1,
        shape: Any = None,
        num_samples: int | None = None,
        key: Any = None,
        stream: Any = None,
    ) -> Any:
        import mlx.core as mx

        if shape is not None or num_samples is None or axis != -1:
            raise Unmatched("MLX draws categories in a shape of its own")
        return mx.array(drawn.next("categorical", (*logits.shape[:-1], num_samples)))

    return categorical


def _unknown(name: str) -> Callable[[Drawn], Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise Unmatched(f"MLX draws with mx.random.{name}")

    return lambda drawn: refuse


_UNKNOWN = ("gumbel", "truncated_normal", "laplace", "multivariate_normal")
_GIVEN: dict[str, Callable[[Drawn], Any]] = {
    "bernoulli": _bernoulli,
    "uniform": _uniform,
    "normal": _standard_normal,
    "randint": _randint,
    "permutation": _permutation,
    "categorical": _categorical,
}
