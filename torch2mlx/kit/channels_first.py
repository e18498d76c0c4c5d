"""torch.nn's spatial layers and functions as they are in torch: channels before the spatial axes.

Each turns its input to MLX's channels-last order, computes, and turns the result back; weights have
MLX's layout, so what `convert` wrote loads. They stand in a ported script where an array's layout
is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import channels_last, dropout, moments, pooling, resample, shuffle
from torch2mlx.kit.channels_last import to_first, to_last, with_options


def _turned(function: Callable[..., Any], rank: int | None = None, arrays: int = 1) -> Any:
    """A channels-last function for channels-first arrays: its first `arrays` arguments."""

    @wraps(function)
    def call(x: mx.array, *args: Any, **kwargs: Any) -> Any:
        single = rank is not None and x.ndim == rank + 1
        given = [x, *args[: arrays - 1]]
        given = [to_last(a[None] if single else a) for a in given]
        found = function(*given, *args[arrays - 1 :], **kwargs)
        back = lambda y: to_first(y)[0] if single else to_first(y)  # noqa: E731
        return tuple(map(back, found)) if isinstance(found, tuple) else back(found)

    return call


class _Spatial(nn.Module):
    """Mixed into a channels-last layer: the same layer with channels first."""

    _rank: int | None = None

    def __call__(self, x: mx.array, *more: Any) -> Any:
        return _turned(super().__call__, self._rank)(x, *more)


def _layer(name: str, base: type, rank: int | None) -> Any:
    text = f"torch.nn.{name}: channels first, arguments as in torch."
    return type(name, (_Spatial, base), {"_rank": rank, "__doc__": text, "__module__": __name__})


def _function(name: str, function: Callable[..., Any], rank: int | None, arrays: int = 1) -> Any:
    made = _turned(function, rank, arrays)
    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"torch.nn.functional.{name}: channels first, arguments as in torch."
    return made


def group_norm(
    x: mx.array,
    num_groups: int,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """torch.nn.functional.group_norm. x: (N, C, ...).

    Raises ValueError for channels that the groups do not divide.
    """
    batch, channels, *spatial = x.shape
    if channels % num_groups:
        raise ValueError(f"{num_groups} groups do not divide {channels} channels")
    rows = x.reshape(batch, num_groups, channels // num_groups * math.prod(spatial))
    y = moments.layer_norm(rows, None, None, eps).reshape(x.shape)
    each = (channels, *(1 for _ in spatial))
    y = y if weight is None else y * weight.reshape(each)
    return y if bias is None else y + bias.reshape(each)


class GroupNorm(channels_last.GroupNorm):
    """torch.nn.GroupNorm. x: (N, C, ...)."""

    _function = staticmethod(group_norm)


def channel_dropout(
    x: mx.array, p: float = 0.5, training: bool = True, inplace: bool = False
) -> mx.array:
    """torch.nn.functional.dropout1d, 2d, 3d. x: (N, C, ...)."""
    return _turned(dropout.channel_dropout)(x, p, training)


class _ChannelDropout(nn.Module):
    """torch.nn.Dropout1d, 2d, 3d: whole channels are dropped."""

    _function = staticmethod(channel_dropout)


class Sequential(nn.Sequential):
    """Layers for (N, *spatial, C) that are called with (N, C, *spatial), and answer so.

    `enters`, `leaves`: whether the input and the result are images; a result of nn.Flatten and
    nn.Linear is none.
    """

    def __init__(self, *modules: Any, enters: bool = True, leaves: bool = True) -> None:
        super().__init__(*modules)
        self._enters, self._leaves = enters, leaves

    def __call__(self, x: mx.array) -> mx.array:
        y = super().__call__(to_last(x) if self._enters else x)
        return to_first(y) if self._leaves else y


def affine_grid(theta: mx.array, size: Any, align_corners: bool | None = None) -> mx.array:
    """torch.nn.functional.affine_grid. theta: (N, 2, 3) or (N, 3, 4); size: (N, C, *spatial)."""
    n, channels, *spatial = size
    return resample.affine_grid(theta, (n, *spatial, channels), bool(align_corners))


def _unfold(x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
    return shuffle.unfold(to_last(x), *args, **kwargs).swapaxes(1, 2)


def _fold(x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
    return to_first(shuffle.fold(x.swapaxes(1, 2), *args, **kwargs))


_LAYERS: dict[str, Any] = {}
for _name, (_function_, _rank) in channels_last.FUNCTIONS.items():
    _LAYERS[_name] = _function(_name, _function_, _rank)
for _name, (_base, _rank) in channels_last.WEIGHTED.items():
    _LAYERS[_name] = _layer(_name, _base, _rank)
for _name, (_function_, _rank) in channels_last.PLAIN.items():
    _same = channels_last.NAMES[_name]  # what is one of these is one of those, for isinstance
    _LAYERS[_name] = with_options(_name, _turned(_function_, _rank), __name__, _same)
for _n in (1, 2, 3):
    _bases = (_ChannelDropout, channels_last.NAMES[f"Dropout{_n}d"])
    _LAYERS[f"Dropout{_n}d"] = type(f"Dropout{_n}d", _bases, {"__module__": __name__})
    _un = partial(lambda n, x, at, *a, **k: pooling.max_unpool_layer(x, at, n, *a, **k), _n)
    _LAYERS[f"max_unpool{_n}d"] = _function(
        f"max_unpool{_n}d", wraps(pooling.max_unpool_layer)(_un), None, 2
    )
    _LAYERS[f"MaxUnpool{_n}d"] = with_options(
        f"MaxUnpool{_n}d", _LAYERS[f"max_unpool{_n}d"], __name__
    )
_LAYERS["FeatureAlphaDropout"] = _layer(
    "FeatureAlphaDropout", channels_last.NAMES["FeatureAlphaDropout"], None
)
_LAYERS["grid_sample"] = _function("grid_sample", resample.grid_sample, None)
_LAYERS["unfold"], _LAYERS["fold"] = _unfold, _fold
_LAYERS["Unfold"] = with_options("Unfold", _unfold, __name__)
_LAYERS["Fold"] = with_options("Fold", _fold, __name__)
globals().update(_LAYERS)
__all__ = [
    "GroupNorm",
    "Sequential",
    "affine_grid",
    "channel_dropout",
    "group_norm",
    "to_first",
    "to_last",
]
__all__ += [*_LAYERS]
