"""Resizing, sampling, padding, windows: channels move to the end and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.pooling import back, batched
from torch2mlx.export.lower.ops.registry import lowers
from torch2mlx.export.lower.stock_layers import to_first, to_last


def _resized(mode: str, rank: int, exact: bool = False) -> Any:
    def function(
        b: Builder,
        input: Any = None,
        self: Any = None,
        output_size: Any = None,
        scale_factors: Any = None,
        align_corners: bool = False,
        **scales: Any,
    ) -> Node:
        x = input if input is not None else self
        given = scale_factors or tuple(v for k, v in scales.items() if k.startswith("scales"))
        options: dict[str, Any] = {"mode": mode}
        if output_size is not None and not all(v is not None for v in given or (None,)):
            options["size"] = tuple(output_size)
        elif given and all(v is not None for v in given):
            options["scale_factor"] = tuple(given)
            if output_size is not None and b.shape is not None:
                options = {"mode": mode, "size": tuple(output_size), "scale_factor": None}
                raise Refuse("with sizes and scales at once")
        if align_corners:
            options["align_corners"] = True
        y = b.call("kit.resample.interpolate", to_last(b, x), **options)
        return to_first(b, y)

    function.__name__ = f"resized_{mode}"
    return function


_MODES = (
    ("nearest1d", "nearest", 1),
    ("nearest2d", "nearest", 2),
    ("nearest3d", "nearest", 3),
    ("linear1d", "linear", 1),
    ("bilinear2d", "bilinear", 2),
    ("trilinear3d", "trilinear", 3),
    ("bicubic2d", "bicubic", 2),
    ("_nearest_exact1d", "nearest-exact", 1),
    ("_nearest_exact2d", "nearest-exact", 2),
    ("_nearest_exact3d", "nearest-exact", 3),
)


for _suffix, _mode, _rank in _MODES:
    _full = f"aten::_upsample{_suffix}" if _suffix.startswith("_") else f"aten::upsample_{_suffix}"
    lowers(_full)(_resized(_mode, _rank))


def _antialiased(mode: str) -> Any:
    def function(
        b: Builder,
        input: Any = None,
        self: Any = None,
        output_size: Any = None,
        align_corners: bool = False,
        scale_factors: Any = None,
        **_: Any,
    ) -> Node:
        x = input if input is not None else self
        size = (
            {"scale_factor": tuple(scale_factors)}
            if output_size is None
            else {"size": tuple(output_size)}
        )
        y = b.call(
            "kit.resample.interpolate",
            to_last(b, x),
            **size,
            mode=mode,
            align_corners=align_corners,
            antialias=True,
        )
        return to_first(b, y)

    function.__name__ = f"antialiased_{mode}"
    return function


lowers("aten::_upsample_bilinear2d_aa")(_antialiased("bilinear"))


lowers("aten::_upsample_bicubic2d_aa")(_antialiased("bicubic"))


@lowers("aten::grid_sampler", "aten::grid_sampler_2d", "aten::grid_sampler_3d")
def grid_sampler(
    b: Builder,
    input: Node,
    grid: Node,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Node:
    """Values of an image at the positions of a grid."""
    mode = ("bilinear", "nearest", "bicubic")[interpolation_mode]
    padding = ("zeros", "border", "reflection")[padding_mode]
    y = b.call("kit.resample.grid_sample", to_last(b, input), grid, mode, padding, align_corners)
    return to_first(b, y)


@lowers("aten::affine_grid_generator")
def affine_grid(b: Builder, theta: Node, size: Sequence[int], align_corners: bool) -> Node:
    """A grid of positions from an affine map."""
    n, c, *spatial = size
    return b.call("kit.resample.affine_grid", theta, (n, *spatial, c), align_corners)


def _crops(width: Any) -> bool:
    """Whether a width is negative: of one that lengths decide, the export fixes the sign."""
    return bool((width.value if isinstance(width, Node) else width) < 0)


@lowers("aten::pad")
def pad(
    b: Builder, self: Node, pad: Sequence[Any], mode: str = "constant", value: Any = None
) -> Node:
    """Numbers around, the last axis first."""
    if not any(isinstance(n, Node) or n for n in pad):
        return self
    if mode == "constant" and not any(map(_crops, pad)):
        pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
        widths = ((0, 0),) * (self.ndim - len(pairs)) + tuple(reversed(pairs))
        more = {} if not value else {"constant_values": value}
        return b.call("mx.pad", self, widths, **more)
    return b.call("kit.padding.pad", self, tuple(pad), mode, *(() if value is None else (value,)))


@lowers("aten::constant_pad_nd")
def constant_pad(b: Builder, self: Node, value: Any = 0, **widths: Any) -> Node:
    """A constant around."""
    return pad(b, self, widths["pad"], "constant", value)


def _edges(names: Sequence[str], mode: str) -> None:
    def function(b: Builder, self: Node, padding: Sequence[int]) -> Node:
        return b.call("kit.padding.pad", self, tuple(padding), mode)

    function.__name__ = f"{mode}_pad"
    lowers(*(f"aten::{name}" for name in names))(function)


_edges([f"reflection_pad{n}d" for n in (1, 2, 3)], "reflect")


_edges([f"replication_pad{n}d" for n in (1, 2, 3)], "replicate")


@lowers("aten::pixel_shuffle")
def pixel_shuffle(b: Builder, self: Node, upscale_factor: int) -> Node:
    """Channels become pixels."""
    return to_first(b, b.call("kit.shuffle.pixel_shuffle", to_last(b, self), upscale_factor))


@lowers("aten::pixel_unshuffle")
def pixel_unshuffle(b: Builder, self: Node, downscale_factor: int) -> Node:
    """Pixels become channels."""
    return to_first(b, b.call("kit.shuffle.pixel_unshuffle", to_last(b, self), downscale_factor))


@lowers("aten::channel_shuffle")
def channel_shuffle(b: Builder, self: Node, groups: int) -> Node:
    """Channels of groups interleaved."""
    return to_first(b, b.call("kit.shuffle.channel_shuffle", to_last(b, self), groups))


@lowers("aten::im2col")
def im2col(
    b: Builder, self: Node, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Node:
    """Windows as columns: (N, C * kernel, L)."""
    x, many = batched(b, self, 2)
    y = b.call(
        "kit.shuffle.unfold",
        to_last(b, x),
        tuple(kernel_size),
        tuple(dilation),
        tuple(padding),
        tuple(stride),
    )
    y = b.swap(y, 1, 2)
    return y if many else b.index(y, 0)


@lowers("aten::col2im")
def col2im(
    b: Builder,
    self: Node,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> Node:
    """Columns added up into an image."""
    x, many = (self, True) if self.ndim == 3 else (b.call("mx.expand_dims", self, 0), False)
    y = b.call(
        "kit.shuffle.fold",
        b.swap(x, 1, 2),
        tuple(output_size),
        tuple(kernel_size),
        tuple(dilation),
        tuple(padding),
        tuple(stride),
    )
    return back(b, y, many)
