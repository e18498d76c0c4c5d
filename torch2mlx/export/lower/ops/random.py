"""Random numbers: MLX's stream, so shapes and distributions agree, numbers do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse, mx_dtype
from torch2mlx.export.ir.nodes import Node, Symbol
from torch2mlx.export.lower.ops.registry import lowers


def _dtype(b: Builder) -> dict[str, Any]:
    return {} if b.dtype in (None, "float32") else {"dtype": mx_dtype(b.dtype)}


@lowers("aten::dropout", "aten::native_dropout")
def dropout(b: Builder, input: Node, p: float, train: bool) -> Node:
    """Numbers left out as often as p: in training, or always where the model says so."""
    when = mode(b, train)
    return input if p == 0 or when is None else b.call("kit.dropout.dropout", input, p, when)


def _in_place(name: str) -> None:
    """The same as the operator that writes to its argument, which its schema calls self."""

    def function(b: Builder, self: Node, p: float, train: bool) -> Node:
        return {"dropout": dropout, "feature_dropout": feature_dropout}.get(name, alpha_dropout)(
            b, self, p, train
        )

    function.__name__ = f"{name}_"
    lowers(f"aten::{name}_")(function)


for _name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
    _in_place(_name)


def mode(b: Builder, train: bool) -> Any:
    """When to drop: the model's mode, where `train` was that; True or None where it was fixed."""
    if train == b.training:
        return Symbol("self.training")
    return True if train else None


@lowers("aten::feature_dropout")
def feature_dropout(b: Builder, input: Node, p: float, train: bool) -> Node:
    """Whole channels left out in training; channels are the second axis here."""
    when = mode(b, train)
    if p == 0 or when is None:
        return input
    last = b.call("mx.moveaxis", input, 1, -1)
    dropped = b.call("kit.dropout.channel_dropout", last, p, when)
    return b.call("mx.moveaxis", dropped, -1, 1)


@lowers("aten::alpha_dropout", "aten::feature_alpha_dropout")
def alpha_dropout(b: Builder, input: Node, p: float, train: bool) -> Node:
    """Dropout that keeps mean and variance."""
    when = mode(b, train)
    return input if p == 0 or when is None else b.call("kit.dropout.alpha_dropout", input, p, when)


@lowers("aten::rand")
def rand(b: Builder, size: Sequence[Any], **_: Any) -> Node:
    """Uniform in [0, 1)."""
    return b.call("mx.random.uniform", shape=tuple(size), **_dtype(b))


@lowers("aten::randn")
def randn(b: Builder, size: Sequence[Any], **_: Any) -> Node:
    """Normal."""
    return b.call("mx.random.normal", tuple(size), **_dtype(b))


@lowers("aten::rand_like")
def rand_like(b: Builder, self: Node, **_: Any) -> Node:
    """Uniform, in the shape of another array."""
    return b.call("mx.random.uniform", shape=b.dims(self), **_dtype(b))


@lowers("aten::randn_like")
def randn_like(b: Builder, self: Node, **_: Any) -> Node:
    """Normal, in the shape of another array."""
    return b.call("mx.random.normal", b.dims(self), **_dtype(b))


@lowers("aten::randint")
def randint(b: Builder, high: Any, size: Sequence[Any], low: Any = 0, **_: Any) -> Node:
    """Whole numbers from low up to high, without it."""
    return b.call("mx.random.randint", low, high, tuple(size), dtype=mx_dtype(b.dtype or "int64"))


@lowers("aten::randint_like")
def randint_like(b: Builder, self: Node, high: Any, low: Any = 0, **_: Any) -> Node:
    """Whole numbers, in the shape of another array."""
    return b.call("mx.random.randint", low, high, b.dims(self), dtype=mx_dtype(b.dtype or "int64"))


@lowers("aten::randperm")
def randperm(b: Builder, n: int, **_: Any) -> Node:
    """Whole numbers below n in random order."""
    return b.cast(b.call("mx.random.permutation", n), b.dtype or "int64")


@lowers("aten::bernoulli")
def bernoulli(b: Builder, self: Node, p: Any = None, **_: Any) -> Node:
    """Ones as often as the probabilities say."""
    chance = self if p is None else p
    drawn = b.call("mx.random.bernoulli", chance, b.dims(self))
    return b.cast(drawn, self.dtype)


@lowers("aten::normal", "aten::normal_functional")
def normal(
    b: Builder, self: Any = None, mean: Any = 0.0, std: Any = 1.0, size: Any = None, **_: Any
) -> Node:
    """Normal with mean and deviation."""
    like = (v for v in (self, mean, std) if isinstance(v, Node))
    shape = tuple(size) if size is not None else b.dims(next(like))
    drawn = b.call("mx.random.normal", shape, **_dtype(b))
    return b.call("operator.add", b.call("operator.mul", drawn, std), mean)


@lowers("aten::uniform", "aten::uniform_")
def uniform(b: Builder, self: Node, to: Any = 1.0, **more: Any) -> Node:
    """Uniform between two numbers."""
    low = more.get("from", 0.0)
    return b.call("mx.random.uniform", low, to, b.dims(self), **_dtype(b))


@lowers("aten::exponential")
def exponential(b: Builder, self: Node, lambd: float = 1.0) -> Node:
    """Exponential."""
    drawn = b.call("mx.random.uniform", shape=b.dims(self), **_dtype(b))
    return b.call(
        "operator.truediv",
        b.call("operator.neg", b.call("mx.log1p", b.call("operator.neg", drawn))),
        lambd,
    )


@lowers("aten::multinomial")
def multinomial(b: Builder, self: Node, num_samples: int, replacement: bool = False) -> Node:
    """Classes drawn by their weights."""
    if num_samples != 1 and not replacement:
        raise Refuse("without replacement")
    drawn = b.call("mx.random.categorical", b.call("mx.log", self), num_samples=num_samples)
    return b.cast(drawn, "int64")
