"""Convolution blocks, channels-last."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.errors import ConversionError
from torch2mlx.export.lower.build_layer import build
from torch2mlx.templates.loading import activation, fill, torch_name


def _norm(name: str | None, channels: int, groups: int) -> nn.Module | None:
    if name is None:
        return None
    if name == "batch":
        return nn.BatchNorm(channels)
    if name == "group":
        return nn.GroupNorm(groups, channels, pytorch_compatible=True)
    if name == "instance":
        return nn.InstanceNorm(channels, affine=True)
    raise ValueError(f"norm={name!r}: choose 'batch', 'group', 'instance' or None")


class ConvBlock(nn.Module):
    """Convolution, norm, activation. x: (N, H, W, C) -> (N, H', W', out_channels)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
        norm: str | None = "batch",
        activation_name: str = "relu",
        groups: int = 1,
        norm_groups: int = 8,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
        )
        made = _norm(norm, out_channels, norm_groups)
        if made is not None:
            self.norm = made
        self._activation = activation(activation_name)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.conv(x)
        return self._activation(self.norm(x) if "norm" in self else x)

    @classmethod
    def from_torch(cls, module: Any) -> ConvBlock:
        """From an nn.Sequential of Conv2d, perhaps a norm, perhaps an activation.

        Raises ConversionError for any other order, and for options of Conv2d beyond stride, padding
        and groups.
        """
        layers = list(module)
        kinds = [type(layer).__name__ for layer in layers]
        norms = {"BatchNorm2d": "batch", "GroupNorm": "group", "InstanceNorm2d": "instance"}
        if not kinds or kinds[0] != "Conv2d" or len(kinds) > 3:
            raise ConversionError(f"{kinds}: not Conv2d, norm, activation")
        conv, rest = layers[0], layers[1:]
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros" or max(conv.dilation) > 1:
            raise ConversionError(f"{conv}: options that this template lacks")
        normed = rest.pop(0) if rest and type(rest[0]).__name__ in norms else None
        name = torch_name(rest.pop(0)) if rest else "identity"
        made = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            None,
            name,
            conv.groups,
            bias=conv.bias is not None,
        )
        fill(made.conv, conv)
        if normed is not None:
            made.norm = build(normed)
        made.train(module.training)
        return made


class ConvStack(nn.Module):
    """ConvBlocks one after the other. x: (N, H, W, channels[0]) -> (N, H', W', channels[-1]).

    Every block but the first halves height and width when `downsample`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernel_size: int = 3,
        downsample: bool = False,
        norm: str | None = "batch",
        activation_name: str = "relu",
    ) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.blocks = [
            ConvBlock(
                a,
                b,
                kernel_size,
                2 if downsample and i else 1,
                kernel_size // 2,
                norm,
                activation_name,
            )
            for i, (a, b) in enumerate(pairs)
        ]

    def __call__(self, x: mx.array) -> mx.array:
        for block in self.blocks:
            x = block(x)
        return x

    @classmethod
    def from_torch(cls, module: Any) -> ConvStack:
        """From an nn.Sequential of what ConvBlock.from_torch takes."""
        made = cls([1])
        made.blocks = [ConvBlock.from_torch(block) for block in module]
        made.train(module.training)
        return made
