"""Convolutions with options that mlx.nn has no argument for, or mlx.core no kernel."""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit.padding import pad_axes

Size = int | tuple[int, ...]


def _sizes(value: Size, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def by_group(conv: Callable[..., mx.array], x: mx.array, weight: mx.array, groups: int) -> mx.array:
    """A grouped convolution as one convolution a group; channels are the last axis of x."""
    if groups == 1:
        return conv(x, weight)
    pairs = zip(mx.split(x, groups, -1), mx.split(weight, groups, 0), strict=True)
    return mx.concatenate([conv(part, w) for part, w in pairs], axis=-1)


class _Conv(nn.Module):
    """What mlx.nn's convolutions lack: padding modes, padding="same", groups in 3-D."""

    _rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        kernel, inputs = _sizes(kernel_size, self._rank), in_channels // groups
        bound = 1 / math.sqrt(inputs * math.prod(kernel))
        self.weight = mx.random.uniform(-bound, bound, (out_channels, *kernel, inputs))
        if bias:
            self.bias = mx.random.uniform(-bound, bound, (out_channels,))
        self._stride, self._dilation = (_sizes(v, self._rank) for v in (stride, dilation))
        self._widths = self._pads(padding, kernel)
        self._mode = "constant" if padding_mode == "zeros" else padding_mode
        self._groups = groups
        self._padding = padding if isinstance(padding, str) else _sizes(padding, self._rank)

    def _pads(self, padding: Size | str, kernel: tuple[int, ...]) -> list[tuple[int, int]]:
        """(before, after) of each spatial axis; "same" puts the odd one after."""
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(self._dilation, kernel, strict=True)]
            return [(n // 2, n - n // 2) for n in total]
        if isinstance(padding, str):
            if padding != "valid":
                raise ValueError(f"padding is 'valid', 'same' or widths, not {padding!r}")
            padding = 0
        return [(n, n) for n in _sizes(padding, self._rank)]

    def _convolve(self, x: mx.array, weight: mx.array, groups: int = 1) -> mx.array:
        return mx.conv_general(
            x, weight, stride=self._stride, kernel_dilation=self._dilation, groups=groups
        )

    def __call__(self, x: mx.array) -> mx.array:
        single = x.ndim == self._rank + 1
        given, weight = x[None] if single else x, self.weight
        half = mx.result_type(given, weight)
        if self._mode != "constant" and half in (mx.float16, mx.bfloat16):
            # a repeated item's gradient is a sum of several: it is rounded once, not part by part
            given, weight = given.astype(mx.float32), weight.astype(mx.float32)
        y = pad_axes(given, [(0, 0), *self._widths, (0, 0)], self._mode)
        if self._rank == 3 and self._groups > 1:
            y = by_group(self._convolve, y, weight, self._groups)
        else:
            y = self._convolve(y, weight, self._groups)
        y = y.astype(half)
        y = y + self.bias if "bias" in self else y
        return y[0] if single else y


class Conv1d(_Conv):
    """torch.nn.Conv1d with any option. x: (N, L, C); weight: (O, k, C / groups)."""

    _rank = 1


class Conv2d(_Conv):
    """torch.nn.Conv2d with any option. x: (N, H, W, C); weight: (O, kH, kW, C / groups)."""

    _rank = 2


class Conv3d(_Conv):
    """torch.nn.Conv3d with any option. x: (N, D, H, W, C); weight: (O, kD, kH, kW, C / groups)."""

    _rank = 3


class _ConvTranspose(nn.Module):
    """The part that the three ranks share."""

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
            self.bias = mx.random.uniform(-bound, bound, (out_channels,))
        self._stride, self._dilation = (_sizes(v, self._rank) for v in (stride, dilation))
        pads, more = _sizes(padding, self._rank), _sizes(output_padding, self._rank)
        self._widths = [(-p, o - p) for p, o in zip(pads, more, strict=True)]
        self._groups, self._padding, self._more = groups, pads, more

    def _convolve(self, x: mx.array, weight: mx.array) -> mx.array:
        if self._rank == 1:
            return mx.conv_transpose1d(x, weight, self._stride[0], 0, self._dilation[0])
        conv: Callable[..., mx.array] = (
            mx.conv_transpose2d if self._rank == 2 else mx.conv_transpose3d
        )
        return conv(x, weight, self._stride, (0,) * self._rank, self._dilation)

    def __call__(self, x: mx.array) -> mx.array:
        single = x.ndim == self._rank + 1
        y = by_group(self._convolve, x[None] if single else x, self.weight, self._groups)
        # padding crops the whole result; mlx's gradient with output_padding has a wrong shape
        y = pad_axes(y, [(0, 0), *self._widths, (0, 0)])
        y = y + self.bias if "bias" in self else y
        return y[0] if single else y


class ConvTranspose1d(_ConvTranspose):
    """torch.nn.ConvTranspose1d with groups. x: (N, L, C); weight: (O, k, C / groups)."""

    _rank = 1


class ConvTranspose2d(_ConvTranspose):
    """torch.nn.ConvTranspose2d with groups. x: (N, H, W, C); weight: (O, kH, kW, C / groups)."""

    _rank = 2


class ConvTranspose3d(_ConvTranspose):
    """torch.nn.ConvTranspose3d with groups. x: (N, D, H, W, C); weight: (O, *k, C / groups)."""

    _rank = 3


def conv_transpose(
    x: mx.array,
    weight: mx.array,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> mx.array:
    """Transposed convolution of x (N, *spatial, C) by weight (O, *kernel, C / groups)."""
    rank = x.ndim - 2
    steps, spread = _sizes(stride, rank), _sizes(dilation, rank)

    def convolve(part: mx.array, kernel: mx.array) -> mx.array:
        function = (mx.conv_transpose1d, mx.conv_transpose2d, mx.conv_transpose3d)[rank - 1]
        one = lambda values: values[0] if rank == 1 else values  # noqa: E731
        return function(part, kernel, one(steps), one((0,) * rank), one(spread))

    y = by_group(convolve, x, weight, groups)
    pads, more = _sizes(padding, rank), _sizes(output_padding, rank)
    return pad_axes(y, [(0, 0), *((-p, o - p) for p, o in zip(pads, more, strict=True)), (0, 0)])


CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)
TRANSPOSED = (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
