"""Layers that move, pad or resize data."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.entry import Make, Twin, layer, made_of, refused
from torch2mlx.errors import Code, Unsupported

_SHUFFLE = "torch2mlx.kit.shuffle."


def _pad(mode: str) -> Make:
    def make(module: Any) -> Twin:
        value = getattr(module, "value", 0)
        options = {"widths": tuple(module.padding), "mode": mode, "value": value}
        return Twin("torch2mlx.kit.padding.pad_spatial", options, "channels_last")

    return make


for _kind, _mode, _native in (
    ("ConstantPad", "constant", "mlx.core.pad"),
    ("ZeroPad", "constant", "mlx.core.pad"),
    ("ReflectionPad", "reflect", "mlx.core.pad"),
    ("ReplicationPad", "replicate", "mlx.core.pad"),
    ("CircularPad", "circular", ""),
):
    layer(
        f"{_kind}1d {_kind}2d {_kind}3d",
        _pad(_mode),
        mlx="torch2mlx.kit.padding.pad_spatial",
        native=_native,
        images="rigid",
    )
for _names, _images in (
    ("Upsample", "flexible"),
    ("UpsamplingNearest2d UpsamplingBilinear2d", "rigid"),
):
    # interpolate of the kit: every mode, any scale
    layer(
        _names,
        made_of(
            "torch2mlx.kit.resample.interpolate",
            "size scale_factor mode align_corners recompute_scale_factor",
            "channels_last",
        ),
        mlx="torch2mlx.kit.resample.interpolate",
        native="mlx.nn.Upsample",
        images=_images,
    )
for _name, _function, _options, _images in (
    ("PixelShuffle", "pixel_shuffle", "upscale_factor", "rigid"),
    ("PixelUnshuffle", "pixel_unshuffle", "downscale_factor", "rigid"),
    ("ChannelShuffle", "channel_shuffle", "groups", "flexible"),
):
    layer(
        _name,
        made_of(_SHUFFLE + _function, _options, "channels_last"),
        mlx=_SHUFFLE + _function,
        native="mlx.core.transpose",
        images=_images,
    )
# blocks are axis 1, columns the last
layer(
    "Fold",
    made_of(f"{_SHUFFLE}fold", "output_size kernel_size dilation padding stride", "channels_last"),
    mlx=f"{_SHUFFLE}fold",
    images="kept",
)
layer(
    "Unfold",
    made_of(f"{_SHUFFLE}unfold", "kernel_size dilation padding stride", "channels_last"),
    mlx=f"{_SHUFFLE}unfold",
    images="kept",
)
# in torch's order: convert channels-last data before it
layer(
    "Flatten",
    made_of(f"{_SHUFFLE}flatten", start_axis="start_dim", end_axis="end_dim"),
    mlx=f"{_SHUFFLE}flatten",
    native="mlx.core.flatten",
)


def unflatten(module: Any) -> Twin | Unsupported:
    """unflatten of the kit."""
    if not isinstance(module.dim, int):
        return refused(module, "named dimensions", Code.NO_LOWERING)
    options = {"axis": module.dim, "shape": tuple(module.unflattened_size)}
    return Twin("torch2mlx.kit.shuffle.unflatten", options)


layer("Unflatten", unflatten, mlx=f"{_SHUFFLE}unflatten", native="mlx.core.unflatten")
