"""Convolutions."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.entry import Twin, layer, rank_of, taken
from torch2mlx.catalog.weights.actions import Move

_COMMON = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")


def _numbers(arguments: dict[str, Any], rank: int) -> dict[str, Any]:
    """mlx.nn's one-dimensional layers take numbers where torch keeps tuples of one."""
    if rank > 1:
        return arguments
    return {
        name: value[0] if isinstance(value, tuple) and len(value) == 1 else value
        for name, value in arguments.items()
    }


def conv(module: Any) -> Twin:
    """mlx.nn's layer; the kit's for padding modes, "same", and groups in three dimensions."""
    rank = rank_of(module)
    arguments = {**taken(module, _COMMON), "bias": module.bias is not None}
    plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if plain and (rank < 3 or module.groups == 1):
        if rank < 3:
            arguments["groups"] = module.groups
        return Twin(f"mlx.nn.Conv{rank}d", _numbers(arguments, rank), "channels_last")
    arguments.update(groups=module.groups, padding_mode=module.padding_mode)
    return Twin(f"torch2mlx.kit.Conv{rank}d", arguments, "channels_last")


def conv_transpose(module: Any) -> Twin:
    """mlx.nn's layer; the kit's with groups or output_padding."""
    rank = rank_of(module)
    names = (*_COMMON, "output_padding")
    arguments = {**taken(module, names), "bias": module.bias is not None}
    if module.groups > 1 or any(module.output_padding):
        arguments["groups"] = module.groups
        return Twin(f"torch2mlx.kit.ConvTranspose{rank}d", arguments, "channels_last")
    return Twin(f"mlx.nn.ConvTranspose{rank}d", _numbers(arguments, rank), "channels_last")


for _n, _k, _words in (
    (1, "k", "kernel"),
    (2, "h w", "height width"),
    (3, "d h w", "depth height width"),
):
    layer(
        f"Conv{_n}d",
        conv,
        mlx="mlx.nn.{name}",
        general="torch2mlx.kit.{name}",
        weights={"weight": Move(f"o i {_k} -> o {_k} i")},
        tensors={"weight": f"out in {_words}", "bias": "out"},
        images="rigid",
    )
    layer(
        f"ConvTranspose{_n}d",
        conv_transpose,
        mlx="mlx.nn.{name}",
        general="torch2mlx.kit.{name}",
        weights={"weight": Move(f"(g i) o {_k} -> (g o) {_k} i", letters={"g": "groups"})},
        tensors={"weight": f"in out {_words}", "bias": "groups*out"},
        images="rigid",
    )
