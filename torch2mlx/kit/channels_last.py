"""torch.nn's spatial layers and functions with torch's names and arguments, for arrays as MLX lays
them out: (N, *spatial, C).

`kit.channels_first` has the same for torch's (N, C, *spatial), by turning what it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import (
    activations,
    conv,
    dropout,
    layers,
    norm,
    pooling,
    resample,
    shuffle,
)
from torch2mlx.kit.moments import group_norm
from torch2mlx.kit.norm import GroupNorm
from torch2mlx.kit.padding import pad_spatial
from torch2mlx.kit.turning import broadcast_last, check_batch, to_first, to_last


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


def channel_dropout(
    x: mx.array, p: float = 0.5, training: bool = True, inplace: bool = False
) -> mx.array:
    """torch.nn.functional.dropout1d, 2d, 3d. x: (N, ..., C)."""
    return dropout.channel_dropout(x, p, training)


class ChannelDropout(nn.Module):
    """torch.nn.Dropout1d, 2d, 3d: whole channels are dropped."""

    _function: Callable[..., mx.array] = staticmethod(channel_dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self._p = p

    def __call__(self, x: mx.array) -> mx.array:
        return type(self)._function(x, self._p, self.training)


class Flatten(layers.Flatten):
    """torch.nn.Flatten of (N, *spatial, C): items in the order that they have in torch."""

    def __call__(self, x: mx.array) -> mx.array:
        return super().__call__(to_first(x))


class Unflatten(layers.Unflatten):
    """torch.nn.Unflatten to (N, C, *spatial), which are turned: (N, *spatial, C)."""

    def __call__(self, x: mx.array) -> mx.array:
        return to_last(super().__call__(x))


class Options(nn.Module):
    """A layer without weights: a function with the options of its constructor."""

    _function: Callable[..., Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._args, self._kwargs = args, kwargs

    def __call__(self, *inputs: Any) -> Any:
        return type(self)._function(*inputs, *self._args, **self._kwargs)


def with_options(
    name: str, function: Callable[..., Any], where: str = __name__, base: type = Options
) -> Any:
    """The class of a function's layer."""
    text = f"torch.nn.{name}: {where.rpartition('.')[2].replace('_', ' ')}, arguments as in torch."
    return type(
        name,
        (base,),
        {"_function": staticmethod(function), "__doc__": text, "__module__": where},
    )


def pad(x: mx.array, pad: Any, mode: str = "constant", value: float | None = None) -> mx.array:
    """torch.nn.functional.pad over spatial axes: pairs from the last of them backwards."""
    return pad_spatial(x, tuple(pad), mode, value or 0.0)


def _pads(mode: str, rank: int) -> Callable[..., mx.array]:
    def call(x: mx.array, padding: Any, value: float = 0.0) -> mx.array:
        check_batch(x, rank)
        widths = (padding,) * (2 * rank) if isinstance(padding, int) else tuple(padding)
        return pad_spatial(x, widths, mode, value)

    return call


def _pool(function: Callable[..., Any], rank: int) -> Callable[..., Any]:
    def call(x: mx.array, *args: Any, **kwargs: Any) -> Any:
        check_batch(x, rank)
        return function(x, rank, *args, **kwargs)

    call.__doc__ = function.__doc__
    return call


def _named(name: str, base: type) -> type:
    """A class of its own for each of torch's names: isinstance tells them apart."""
    return type(
        name, (base,), {"__doc__": f"torch.nn.{name}: {base.__doc__}", "__module__": __name__}
    )


def _instance_norm(rank: int) -> type:
    class InstanceNorm(norm.InstanceNorm):
        def __call__(self, x: mx.array) -> mx.array:
            check_batch(x, rank)
            return super().__call__(x)

    return _named(f"InstanceNorm{rank}d", InstanceNorm)


def _of_images(function: Callable[..., mx.array]) -> Callable[..., mx.array]:
    @wraps(function)
    def call(x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        check_batch(x, 2)
        return function(x, *args, **kwargs)

    return call


#: Layers with weights, and functions: name -> (what it is, its spatial axes where they are known).
WEIGHTED: dict[str, tuple[type, int | None]] = {
    "PReLU": (activations.PReLU, None),
    "SyncBatchNorm": (_named("SyncBatchNorm", norm.SyncBatchNorm), None),
}
FUNCTIONS: dict[str, tuple[Callable[..., Any], int | None]] = {
    "interpolate": (resample.interpolate, None),
    "pixel_shuffle": (_of_images(shuffle.pixel_shuffle), 2),
    "pixel_unshuffle": (_of_images(shuffle.pixel_unshuffle), 2),
    "channel_shuffle": (shuffle.channel_shuffle, None),
    "prelu": (activations.prelu, None),
    "batch_norm": (norm.batch_norm, None),
    "instance_norm": (norm.instance_norm, None),
    "feature_alpha_dropout": (dropout.feature_alpha_dropout, None),
    "local_response_norm": (norm.local_response_norm, None),
}
#: Layers without weights: name -> the function that they are, and its spatial axes.
PLAIN: dict[str, tuple[Callable[..., Any], int | None]] = {
    "Upsample": FUNCTIONS["interpolate"],
    "UpsamplingNearest2d": (partial(resample.interpolate, mode="nearest"), None),
    "UpsamplingBilinear2d": (
        partial(resample.interpolate, mode="bilinear", align_corners=True),
        None,
    ),
    "Softmax2d": (partial(mx.softmax, axis=-1), 2),
    "PixelShuffle": FUNCTIONS["pixel_shuffle"],
    "PixelUnshuffle": FUNCTIONS["pixel_unshuffle"],
    "ChannelShuffle": FUNCTIONS["channel_shuffle"],
    "LocalResponseNorm": FUNCTIONS["local_response_norm"],
    "CrossMapLRN2d": (_of_images(norm.cross_map_lrn), 2),
    **{f"FractionalMaxPool{n}d": (_pool(pooling.fractional_max_pool_layer, n), n) for n in (2, 3)},
}
for _n in (1, 2, 3):
    WEIGHTED[f"Conv{_n}d"] = (getattr(conv, f"Conv{_n}d"), _n)
    WEIGHTED[f"ConvTranspose{_n}d"] = (getattr(conv, f"ConvTranspose{_n}d"), _n)
    WEIGHTED[f"BatchNorm{_n}d"] = (_named(f"BatchNorm{_n}d", norm.BatchNorm), None)
    WEIGHTED[f"InstanceNorm{_n}d"] = (_instance_norm(_n), _n)
    FUNCTIONS[f"conv{_n}d"] = (_convolution(_n), _n)
    FUNCTIONS[f"conv_transpose{_n}d"] = (_transposed, _n)
    for _kind in ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool"):
        FUNCTIONS[f"{_kind}{_n}d"] = (_pool(getattr(pooling, _kind), _n), _n)
        _class = "".join(w.capitalize() for w in _kind.split("_")).replace("Lp", "LP") + f"{_n}d"
        PLAIN[_class] = FUNCTIONS[f"{_kind}{_n}d"]
    for _kind, _mode in (
        *(("ZeroPad", "constant"), ("ConstantPad", "constant"), ("ReflectionPad", "reflect")),
        *(("ReplicationPad", "replicate"), ("CircularPad", "circular")),
    ):
        PLAIN[f"{_kind}{_n}d"] = (_pads(_mode, _n), _n)

NAMES: dict[str, Any] = {
    **{name: function for name, (function, _) in FUNCTIONS.items()},
    **{name: base for name, (base, _) in WEIGHTED.items()},
    **{name: with_options(name, function) for name, (function, _) in PLAIN.items()},
    "FeatureAlphaDropout": layers.LAYERS["FeatureAlphaDropout"],
    **{f"dropout{n}d": channel_dropout for n in (1, 2, 3)},
    **{f"Dropout{n}d": _named(f"Dropout{n}d", ChannelDropout) for n in (1, 2, 3)},
}
globals().update(NAMES)
#: Of these the kit itself has what MLX's layout is meant by, as in `kit.Conv2d`.
SHOWN = ["GroupNorm", "broadcast_last", "to_first", "to_last", *NAMES]
__all__ = ["Flatten", "GroupNorm", "Unflatten", "channel_dropout", "group_norm", "pad"]
__all__ += ["broadcast_last", "to_first", "to_last", *NAMES]
