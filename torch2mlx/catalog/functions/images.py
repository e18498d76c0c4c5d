"""Functions of images under torch.nn.functional: channels come second, in MLX last."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import Entry, op

_SPATIAL = (1, 2, 3)


def _image(name: str, mlx: str, note: str = "channels-last") -> tuple[Entry, ...]:
    """A function that kit.channels_first has under the same name and arguments."""
    return op(
        f"nn.functional.{name}",
        same=f"kit.channels_first.{name}",
        mlx=mlx,
        note=note,
        layout="images",
    )


ENTRIES = (
    *(
        _image(f"conv{kind}{n}d", f"conv{kind}{n}d", "channels-last; weight (O, ..., I)")
        for kind in ("", "_transpose")
        for n in _SPATIAL
    ),
    *(
        _image(f"{kind}_pool{n}d", f"kit.pooling.{kind}_pool", "channels-last, rank=")
        for kind in ("max", "avg", "lp", "adaptive_avg", "adaptive_max")
        for n in _SPATIAL
    ),
    *(
        op(
            f"nn.functional.fractional_max_pool{n}d",
            mlx="kit.pooling.fractional_max_pool",
            note="channels-last, rank=",
        )
        for n in (2, 3)
    ),
    *(
        op(
            f"nn.functional.max_pool{n}d_with_indices",
            "input kernel_size stride padding dilation ceil_mode |"
            f" kit.channels_first.max_pool{n}d({{input}}, {{kernel_size}}«, stride={{stride}}»"
            "«, padding={padding}»«, dilation={dilation}»«, ceil_mode={ceil_mode}»,"
            " return_indices=True)",
            mlx="kit.pooling.max_pool",
            note="return_indices=True",
            returns="pair",
        )
        for n in _SPATIAL
    ),
    *(
        op(
            f"nn.functional.adaptive_max_pool{n}d_with_indices",
            f"input output_size | kit.channels_first.adaptive_max_pool{n}d({{input}},"
            " {output_size}, return_indices=True)",
            mlx="kit.pooling.adaptive_max_pool",
            note="return_indices=True",
            returns="pair",
        )
        for n in _SPATIAL
    ),
    *(
        op(
            f"nn.functional.fractional_max_pool{n}d_with_indices",
            mlx="kit.pooling.fractional_max_pool",
            note="return_indices=True",
            returns="pair",
        )
        for n in (2, 3)
    ),
    *(
        op(
            f"nn.functional.max_unpool{n}d",
            same=f"kit.channels_first.max_unpool{n}d",
            mlx="kit.pooling.max_unpool",
            note="channels-last",
        )
        for n in _SPATIAL
    ),
    *(
        op(
            f"nn.functional.dropout{n}d",
            same="kit.channels_first.channel_dropout",
            mlx="kit.dropout.channel_dropout",
            note="channels-last",
            layout="images",
        )
        for n in _SPATIAL
    ),
    *(
        _image(name, f"kit.shuffle.{name}")
        for name in ("channel_shuffle", "pixel_shuffle", "pixel_unshuffle")
    ),
    _image("prelu", "kit.PReLU", ""),
    _image("batch_norm", "nn.BatchNorm", "a module; channels-last"),
    _image("group_norm", "nn.GroupNorm", "a module; pytorch_compatible=True"),
    _image("instance_norm", "nn.InstanceNorm", "a module; channels-last"),
    _image("local_response_norm", "kit.norm.local_response_norm"),
    _image("feature_alpha_dropout", "kit.dropout.feature_alpha_dropout", ""),
    _image("interpolate", "kit.resample.interpolate"),
    op("nn.functional.conv_tbc", mlx="conv1d", note="(T, B, C) to (B, T, C) and back"),
    op(
        "nn.functional.native_channel_shuffle",
        mlx="kit.shuffle.channel_shuffle",
        note="channels-last",
    ),
    op(
        "nn.functional.upsample",
        same="kit.channels_first.interpolate",
        mlx="kit.resample.interpolate",
        note="channels-last",
    ),
    op(
        "nn.functional.upsample_nearest",
        "input size scale_factor | kit.channels_first.interpolate({input}«, size={size}»"
        "«, scale_factor={scale_factor}»)",
        mlx="kit.resample.interpolate",
        note="channels-last",
    ),
    op(
        "nn.functional.upsample_bilinear",
        "input size scale_factor | kit.channels_first.interpolate({input}«, size={size}»"
        '«, scale_factor={scale_factor}», mode="bilinear", align_corners=True)',
        mlx="kit.resample.interpolate",
        note="channels-last, align_corners=True",
    ),
    op(
        "nn.functional.grid_sample",
        mlx="kit.resample.grid_sample",
        note="channels-last",
        same="kit.channels_first.grid_sample",
    ),
    op(
        "nn.functional.affine_grid",
        mlx="kit.resample.affine_grid",
        note="size is channels-last",
        same="kit.channels_first.affine_grid",
    ),
    op(
        "nn.functional.fold",
        mlx="kit.shuffle.fold",
        note="channels-last",
        same="kit.channels_first.fold",
    ),
    op(
        "nn.functional.unfold",
        mlx="kit.shuffle.unfold",
        note="channels-last",
        same="kit.channels_first.unfold",
    ),
)
