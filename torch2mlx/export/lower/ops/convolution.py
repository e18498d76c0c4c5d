"""Convolutions: channels move to the end and back; later passes take what they can away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers
from torch2mlx.export.lower.stock_layers import to_first, to_last


def _sizes(value: Any, rank: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _one(values: tuple[int, ...]) -> Any:
    """A number where all axes agree, as MLX's functions take it."""
    return values[0] if len(set(values)) == 1 else values


def _bias(b: Builder, y: Node, bias: Any) -> Node:
    return y if bias is None else b.call("operator.add", y, bias)


def convolution_of(rank: int) -> Callable[..., Node]:
    """The lowering of conv1d, conv2d or conv3d."""

    def function(
        b: Builder,
        input: Node,
        weight: Node,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Node:
        batched = input.ndim == rank + 2
        x = input if batched else b.call("mx.expand_dims", input, 0)
        kernel = weight.shape[2:]
        strides, dilations = _sizes(stride, rank), _sizes(dilation, rank)
        x, pads = _padded(b, to_last(b, x), padding, kernel, dilations)
        w = b.transpose(weight, (0, *range(2, rank + 2), 1))
        more = {"stride": strides, "padding": pads, "dilation": dilations}
        options = {
            k: _one(v) for k, v in more.items() if set(v) != ({0} if k == "padding" else {1})
        }
        y = _convolved(b, rank, x, w, options, groups)
        y = to_first(b, _bias(b, y, bias))
        return y if batched else b.index(y, 0)

    function.__name__ = f"conv{rank}d"
    return function


def _convolved(b: Builder, rank: int, x: Node, w: Node, options: Any, groups: int) -> Node:
    op = f"mx.conv{rank}d"
    if groups == 1:
        return b.call(op, x, w, **options)
    if rank < 3:
        return b.call(op, x, w, **options, groups=groups)
    xs = b.items(b.call("mx.split", x, groups, axis=-1))
    ws = b.items(b.call("mx.split", w, groups, axis=0))
    parts = tuple(b.call(op, p, q, **options) for p, q in zip(xs, ws, strict=True))
    return b.call("mx.concatenate", parts, axis=-1)


def _padded(
    b: Builder, x: Node, padding: Any, kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[Node, tuple[int, ...]]:
    """Padding as numbers; "same" pads the odd one after."""
    rank = len(kernel)
    if padding == "valid":
        return x, (0,) * rank
    if padding != "same":
        return x, _sizes(padding, rank)
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if all(total % 2 == 0 for total in totals):
        return x, tuple(total // 2 for total in totals)
    widths = ((0, 0), *((t // 2, t - t // 2) for t in totals), (0, 0))
    return b.call("mx.pad", x, widths), (0,) * rank


def transposed_of(rank: int) -> Callable[..., Node]:
    """The lowering of conv_transpose1d, 2d or 3d."""

    def function(
        b: Builder,
        input: Node,
        weight: Node,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Node:
        batched = input.ndim == rank + 2
        x = to_last(b, input if batched else b.call("mx.expand_dims", input, 0))
        w = _turned(b, weight, groups)
        names = ("stride", "padding", "dilation")
        given = zip(names, (stride, padding, dilation), strict=True)
        options = {name: _sizes(value, rank) for name, value in given}
        y = _deconvolved(b, rank, x, w, options, _sizes(output_padding, rank), groups)
        y = to_first(b, _bias(b, y, bias))
        return y if batched else b.index(y, 0)

    function.__name__ = f"conv_transpose{rank}d"
    return function


def _turned(b: Builder, weight: Node, groups: int) -> Node:
    """(I, O / groups, *kernel) -> (O, *kernel, I / groups)."""
    inputs, outputs, *kernel = weight.shape
    rank = len(kernel)
    if groups == 1:
        return b.transpose(weight, (1, *range(2, rank + 2), 0))
    w = b.reshape(weight, (groups, inputs // groups, outputs, *kernel))
    w = b.transpose(w, (0, 2, *range(3, rank + 3), 1))
    return b.reshape(w, (groups * outputs, *kernel, inputs // groups))


def _deconvolved(
    b: Builder, rank: int, x: Node, w: Node, options: Any, extra: tuple[int, ...], groups: int
) -> Node:
    return (
        b.call(
            "kit.conv.conv_transpose",
            x,
            w,
            options["stride"],
            options["padding"],
            extra,
            groups,
            options["dilation"],
        )
        if groups > 1 or any(extra)
        else b.call(
            f"mx.conv_transpose{rank}d",
            x,
            w,
            **{
                k: _one(v) for k, v in options.items() if set(v) != ({0} if k == "padding" else {1})
            },
        )
    )


for _rank in (1, 2, 3):
    lowers(f"aten::conv{_rank}d")(convolution_of(_rank))
    lowers(f"aten::conv_transpose{_rank}d")(transposed_of(_rank))


@lowers("aten::convolution", "aten::_convolution")
def convolution(
    b: Builder,
    input: Node,
    weight: Node,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    **_: Any,
) -> Node:
    """Any of them."""
    rank = weight.ndim - 2
    if transposed:
        return transposed_of(rank)(
            b, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return convolution_of(rank)(b, input, weight, bias, stride, padding, dilation, groups)
