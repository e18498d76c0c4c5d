"""torch.nn's spatial layers and functions as they are in torch: channels before the spatial axes.

Each turns its input to MLX's channels-last order, computes, and turns the result back; weights have
MLX's layout, so what `convert` wrote loads. They are what a ported script uses until its data are
laid out channels-last, where `mlx.nn` and the rest of the kit need no turning.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import conv, dropout, norm, padding, pooling, resample, shuffle


def to_last(x: mx.array) -> mx.array:
    """(N, C, *spatial) -> (N, *spatial, C)."""
    return mx.moveaxis(x, 1, -1) if x.ndim > 2 else x


def to_first(x: mx.array) -> mx.array:
    """(N, *spatial, C) -> (N, C, *spatial)."""
    return mx.moveaxis(x, -1, 1) if x.ndim > 2 else x


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


def _convolution(rank: int) -> Callable[..., mx.array]:
    """torch's functional convolution; the weight (O, I, *kernel) as torch has it."""
    convolve = (mx.conv1d, mx.conv2d, mx.conv3d)[rank - 1]

    def call(
        x: mx.array,
        weight: mx.array,
        bias: mx.array | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> mx.array:
        kernel = mx.moveaxis(weight, 1, -1)
        one = lambda x, w: convolve(x, w, stride, padding, dilation)  # noqa: E731
        y = conv.by_group(one, x, kernel, groups)
        return y if bias is None else y + bias

    return call


def _transposed(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> mx.array:
    """torch's functional transposed convolution; the weight (I, O / groups, *kernel)."""
    inputs, outputs = weight.shape[:2]
    parts = weight.reshape(groups, inputs // groups, outputs, *weight.shape[2:])
    kernel = mx.moveaxis(parts, 1, -1).reshape(groups * outputs, *weight.shape[2:], -1)
    y = conv.conv_transpose(x, kernel, stride, padding, output_padding, groups, dilation)
    return y if bias is None else y + bias


class GroupNorm(nn.Module):
    """torch.nn.GroupNorm. x: (N, C, ...)."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        self._groups, self._eps = num_groups, eps
        if affine:
            self.weight, self.bias = mx.ones((num_channels,)), mx.zeros((num_channels,))

    def __call__(self, x: mx.array) -> mx.array:
        weight, bias = (self.weight, self.bias) if "weight" in self else (None, None)
        return group_norm(x, self._groups, weight, bias, self._eps)


def group_norm(
    x: mx.array,
    num_groups: int,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """torch.nn.functional.group_norm. x: (N, C, ...)."""
    grouped = x.reshape(x.shape[0], num_groups, -1)
    y = mx.fast.layer_norm(grouped, None, None, eps).reshape(x.shape)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


class _Options(nn.Module):
    """A layer without weights: a function with the options of its constructor."""

    _function: Callable[..., Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._args, self._kwargs = args, kwargs

    def __call__(self, *inputs: Any) -> Any:
        return type(self)._function(*inputs, *self._args, **self._kwargs)


def _plain(name: str, function: Callable[..., Any]) -> Any:
    text = f"torch.nn.{name}: channels first, arguments as in torch."
    body = {"_function": staticmethod(function), "__doc__": text, "__module__": __name__}
    return type(name, (_Options,), body)


class _ChannelDropout(nn.Module):
    """torch.nn.Dropout1d, 2d, 3d: whole channels are dropped."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self._p = p

    def __call__(self, x: mx.array) -> mx.array:
        return channel_dropout(x, self._p, self.training)


def channel_dropout(
    x: mx.array, p: float = 0.5, training: bool = True, inplace: bool = False
) -> mx.array:
    """torch.nn.functional.dropout1d, 2d, 3d. x: (N, C, ...)."""
    return _turned(dropout.channel_dropout)(x, p, training)


def _unfold(x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
    return shuffle.unfold(to_last(x), *args, **kwargs).swapaxes(1, 2)


def _fold(x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
    return to_first(shuffle.fold(x.swapaxes(1, 2), *args, **kwargs))


def _pads(mode: str, rank: int) -> Callable[..., mx.array]:
    def call(x: mx.array, padding_: Any, value: float = 0.0) -> mx.array:
        widths = (padding_,) * (2 * rank) if isinstance(padding_, int) else tuple(padding_)
        return padding.pad(x, widths, mode, value)

    return call


_LAYERS: dict[str, Any] = {}
for _n in (1, 2, 3):
    for _name, _base in (
        (f"Conv{_n}d", getattr(conv, f"Conv{_n}d")),
        (f"ConvTranspose{_n}d", getattr(conv, f"ConvTranspose{_n}d")),
    ):
        _LAYERS[_name] = _layer(_name, _base, _n)
    for _name, _base in (
        (f"BatchNorm{_n}d", norm.BatchNorm),
        (f"InstanceNorm{_n}d", norm.InstanceNorm),
    ):
        _LAYERS[_name] = _layer(_name, _base, None)
    _LAYERS[f"Dropout{_n}d"] = type(f"Dropout{_n}d", (_ChannelDropout,), {"__module__": __name__})
    _LAYERS[f"conv{_n}d"] = _function(f"conv{_n}d", _convolution(_n), _n)
    _LAYERS[f"conv_transpose{_n}d"] = _function(f"conv_transpose{_n}d", _transposed, _n)
    for _kind in ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool"):
        _pool = getattr(pooling, _kind)
        _at = partial(lambda pool, n, x, *a, **k: pool(x, n, *a, **k), _pool, _n)
        _LAYERS[f"{_kind}{_n}d"] = _function(f"{_kind}{_n}d", wraps(_pool)(_at), _n)
        _class = "".join(w.capitalize() for w in _kind.split("_")).replace("Lp", "LP") + f"{_n}d"
        _LAYERS[_class] = _plain(_class, _LAYERS[f"{_kind}{_n}d"])
    _un = partial(lambda n, x, at, *a, **k: pooling.max_unpool_layer(x, at, n, *a, **k), _n)
    _LAYERS[f"max_unpool{_n}d"] = _function(
        f"max_unpool{_n}d", wraps(pooling.max_unpool_layer)(_un), None, 2
    )
    _LAYERS[f"MaxUnpool{_n}d"] = _plain(f"MaxUnpool{_n}d", _LAYERS[f"max_unpool{_n}d"])
    for _kind, _mode in (
        *(("ZeroPad", "constant"), ("ConstantPad", "constant"), ("ReflectionPad", "reflect")),
        *(("ReplicationPad", "replicate"), ("CircularPad", "circular")),
    ):
        _LAYERS[f"{_kind}{_n}d"] = _plain(f"{_kind}{_n}d", _pads(_mode, _n))

for _name in ("interpolate", "grid_sample"):
    _LAYERS[_name] = _function(_name, getattr(resample, _name), None)
for _name in ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"):
    _LAYERS[_name] = _function(_name, getattr(shuffle, _name), None)
_LAYERS["local_response_norm"] = _function("local_response_norm", norm.local_response_norm, None)
_LAYERS["unfold"], _LAYERS["fold"] = _unfold, _fold
for _name, _target in (
    *(("Upsample", "interpolate"), ("PixelShuffle", "pixel_shuffle"), ("Fold", "fold")),
    *(("PixelUnshuffle", "pixel_unshuffle"), ("ChannelShuffle", "channel_shuffle")),
    *(("LocalResponseNorm", "local_response_norm"), ("Unfold", "unfold")),
):
    _LAYERS[_name] = _plain(_name, _LAYERS[_target])
_LAYERS["UpsamplingNearest2d"] = _plain(
    "UpsamplingNearest2d", partial(_LAYERS["interpolate"], mode="nearest")
)
_LAYERS["UpsamplingBilinear2d"] = _plain(
    "UpsamplingBilinear2d", partial(_LAYERS["interpolate"], mode="bilinear", align_corners=True)
)
globals().update(_LAYERS)
__all__ = ["GroupNorm", "channel_dropout", "group_norm", "to_first", "to_last", *_LAYERS]
