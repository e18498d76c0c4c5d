"""Layers that move, pad or resize data."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.twin import Twin, refused, taken, twin
from torch2mlx.errors import Unsupported

_PADS = {
    "ConstantPad": "constant",
    "ZeroPad": "constant",
    "ReflectionPad": "reflect",
    "ReplicationPad": "replicate",
    "CircularPad": "circular",
}


@twin(*(f"{kind}{n}d" for kind in _PADS for n in (1, 2, 3)))
def pad(module: Any) -> Twin:
    """pad_spatial of the kit."""
    mode = next(
        _PADS[cls.__name__[:-2]] for cls in type(module).__mro__ if cls.__name__[:-2] in _PADS
    )
    options = {"widths": tuple(module.padding), "mode": mode, "value": getattr(module, "value", 0)}
    return Twin("torch2mlx.kit.padding.pad_spatial", options, "channels_last")


@twin("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d")
def upsample(module: Any) -> Twin:
    """interpolate of the kit: every mode, any scale."""
    names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
    return Twin("torch2mlx.kit.resample.interpolate", taken(module, names), "channels_last")


@twin("PixelShuffle")
def pixel_shuffle(module: Any) -> Twin:
    """pixel_shuffle of the kit."""
    options = taken(module, ("upscale_factor",))
    return Twin("torch2mlx.kit.shuffle.pixel_shuffle", options, "channels_last")


@twin("PixelUnshuffle")
def pixel_unshuffle(module: Any) -> Twin:
    """pixel_unshuffle of the kit."""
    options = taken(module, ("downscale_factor",))
    return Twin("torch2mlx.kit.shuffle.pixel_unshuffle", options, "channels_last")


@twin("ChannelShuffle")
def channel_shuffle(module: Any) -> Twin:
    """channel_shuffle of the kit."""
    options = taken(module, ("groups",))
    return Twin("torch2mlx.kit.shuffle.channel_shuffle", options, "channels_last")


@twin("Fold")
def fold(module: Any) -> Twin:
    """fold of the kit: blocks are axis 1, columns the last."""
    names = ("output_size", "kernel_size", "dilation", "padding", "stride")
    return Twin("torch2mlx.kit.shuffle.fold", taken(module, names), "channels_last")


@twin("Unfold")
def unfold(module: Any) -> Twin:
    """unfold of the kit: blocks are axis 1, columns the last."""
    names = ("kernel_size", "dilation", "padding", "stride")
    return Twin("torch2mlx.kit.shuffle.unfold", taken(module, names), "channels_last")


@twin("Flatten")
def flatten(module: Any) -> Twin:
    """flatten of the kit, in torch's order: convert channels-last data before it."""
    names = {"start_axis": "start_dim", "end_axis": "end_dim"}
    return Twin("torch2mlx.kit.shuffle.flatten", taken(module, names))


@twin("Unflatten")
def unflatten(module: Any) -> Twin | Unsupported:
    """unflatten of the kit."""
    if not isinstance(module.dim, int):
        return refused(module, "named dimensions")
    options = {"axis": module.dim, "shape": tuple(module.unflattened_size)}
    return Twin("torch2mlx.kit.shuffle.unflatten", options)
