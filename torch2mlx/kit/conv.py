"""Grouped convolutions that mlx.nn has no argument for, or mlx.core no kernel."""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

Size = int | tuple[int, ...]


def _sizes(value: Size, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def by_group(conv: Callable[..., mx.array], x: mx.array, weight: mx.array, groups: int) -> mx.array:
    """A grouped convolution as one convolution a group; channels are the last axis of x."""
    pairs = zip(mx.split(x, groups, -1), mx.split(weight, groups, 0), strict=True)
    return mx.concatenate([conv(part, w) for part, w in pairs], axis=-1)


class Conv3d(nn.Module):
    """torch.nn.Conv3d with groups.

    x: (N, D, H, W, C) -> (N, D', H', W', O); weight: (O, kD, kH, kW, C / groups).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        kernel, inputs = _sizes(kernel_size, 3), in_channels // groups
        bound = 1 / math.sqrt(inputs * math.prod(kernel))
        self.weight = mx.random.uniform(-bound, bound, (out_channels, *kernel, inputs))
        if bias:
            self.bias = mx.zeros((out_channels,))
        self._options = [_sizes(option, 3) for option in (stride, padding, dilation)]
        self._groups = groups

    def __call__(self, x: mx.array) -> mx.array:
        conv = lambda part, weight: mx.conv3d(part, weight, *self._options)  # noqa: E731
        y = by_group(conv, x, self.weight, self._groups)
        return y + self.bias if "bias" in self else y


class _ConvTranspose(nn.Module):
    """The part that the three ranks share; `_convolve` is mlx.core's function of one rank."""

    _rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
    ) -> None:
        super().__init__()
        kernel = _sizes(kernel_size, self._rank)
        bound = 1 / math.sqrt(out_channels // groups * math.prod(kernel))
        shape = (out_channels, *kernel, in_channels // groups)
        self.weight = mx.random.uniform(-bound, bound, shape)
        if bias:
            self.bias = mx.zeros((out_channels,))
        options = (stride, padding, dilation, output_padding)
        self._options = [_sizes(option, self._rank) for option in options]
        self._groups = groups

    def _convolve(self, x: mx.array, weight: mx.array) -> mx.array:
        if self._rank == 3:
            return mx.conv_transpose3d(x, weight, *self._options)
        if self._rank == 2:
            return mx.conv_transpose2d(x, weight, *self._options)
        return mx.conv_transpose1d(x, weight, *(option[0] for option in self._options))

    def __call__(self, x: mx.array) -> mx.array:
        y = by_group(self._convolve, x, self.weight, self._groups)
        return y + self.bias if "bias" in self else y


class ConvTranspose1d(_ConvTranspose):
    """torch.nn.ConvTranspose1d with groups. x: (N, L, C); weight: (O, k, C / groups)."""

    _rank = 1


class ConvTranspose2d(_ConvTranspose):
    """torch.nn.ConvTranspose2d with groups. x: (N, H, W, C); weight: (O, kH, kW, C / groups)."""

    _rank = 2


class ConvTranspose3d(_ConvTranspose):
    """torch.nn.ConvTranspose3d with groups. x: (N, D, H, W, C); weight: (O, *k, C / groups)."""

    _rank = 3
