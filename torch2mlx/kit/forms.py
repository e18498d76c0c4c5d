"""How tensors of torch are made of a layer's arrays in MLX, and these of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx


@dataclass(frozen=True)
class Form:
    """How a tensor of torch is made of a layer's arrays, and they of it.

    `keys`: where the arrays are in the layer, dotted. `join` makes the tensor of them in this
    order, `part` the arrays of the tensor; without the two it is the only array as it is.
    """

    keys: tuple[str, ...]
    join: Callable[..., mx.array] | None = None
    part: Callable[[mx.array], Any] | None = None


def channels_second(key: str) -> Form:
    """(out, *kernel, in) as (out, in, *kernel)."""
    return Form((key,), lambda w: mx.moveaxis(w, -1, 1), lambda w: (mx.moveaxis(w, 1, -1),))


def transposed(key: str, groups: int) -> Form:
    """(out, *kernel, in / groups) as (in, out / groups, *kernel)."""

    def join(w: mx.array) -> mx.array:
        parts = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        parts = mx.moveaxis(parts, -1, 1)
        return parts.reshape(-1, *parts.shape[2:])

    def part(w: mx.array) -> tuple[mx.array]:
        parts = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        parts = mx.moveaxis(parts, 1, -1)
        return (parts.reshape(-1, *parts.shape[2:]),)

    return Form((key,), join, part)


def swapped(key: str) -> Form:
    """(out, second, first) as (out, first, second)."""
    return Form((key,), lambda w: w.swapaxes(1, 2), lambda w: (w.swapaxes(1, 2),))
