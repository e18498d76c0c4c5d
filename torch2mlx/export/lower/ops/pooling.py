"""Pooling, resizing, padding, windows: channels move to the end and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers
from torch2mlx.export.lower.stock_layers import to_first, to_last


def batched(b: Builder, x: Node, rank: int) -> tuple[Node, bool]:
    """x with a batch axis, and whether it had one."""
    return (x, True) if x.ndim == rank + 2 else (b.call("mx.expand_dims", x, 0), False)


def back(b: Builder, y: Node, many: bool) -> Node:
    """Channels first again, without the batch axis that was added."""
    first = to_first(b, y)
    return first if many else b.index(first, 0)


def _max(rank: int, indices: bool) -> Any:
    def function(
        b: Builder,
        self: Node,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Any:
        x, many = batched(b, self, rank)
        step = _number(stride) or _number(kernel_size)
        more = (_number(kernel_size), step, _number(padding), _number(dilation), ceil_mode)
        if not indices:
            plain = _number(padding) == 0 and _number(dilation) == 1 and not ceil_mode
            options = more[:2] if plain else more
            return back(b, b.call("kit.pooling.max_pool", to_last(b, x), rank, *options), many)
        found = b.call("kit.pooling.max_pool", to_last(b, x), rank, *more, return_indices=True)
        values, places = b.items(found)
        return back(b, values, many), b.cast(back(b, places, many), "int64")

    function.__name__ = f"max_pool{rank}d"
    return function


def _number(value: Any) -> Any:
    """A number where all axes agree."""
    if isinstance(value, int):
        return value
    values = tuple(value)
    return values[0] if values and len(set(values)) == 1 else values


def _avg(rank: int) -> Any:
    def function(
        b: Builder,
        self: Node,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> Node:
        x, many = batched(b, self, rank)
        more: tuple[Any, ...] = (_number(kernel_size), _number(stride) or _number(kernel_size))
        if _number(padding) or ceil_mode or not count_include_pad or divisor_override:
            more += (_number(padding), ceil_mode, count_include_pad, divisor_override)
        return back(b, b.call("kit.pooling.avg_pool", to_last(b, x), rank, *more), many)

    function.__name__ = f"avg_pool{rank}d"
    return function


def _adaptive(rank: int, kind: str) -> Any:
    def function(b: Builder, self: Node, output_size: Any) -> Any:
        x, many = batched(b, self, rank)
        size = _number(output_size)
        if kind == "avg":
            if size == 1:
                axes = tuple(range(self.ndim - rank, self.ndim))
                axis = axes[0] if rank == 1 else axes
                return b.call("mx.mean", self, axis=axis, keepdims=True)
            y = b.call("kit.pooling.adaptive_avg_pool", to_last(b, x), rank, size)
            return back(b, y, many)
        found = b.call("kit.pooling.adaptive_max_pool", to_last(b, x), rank, size, True)
        values, places = b.items(found)
        return back(b, values, many), b.cast(back(b, places, many), "int64")

    function.__name__ = f"adaptive_{kind}_pool{rank}d"
    return function


for _rank in (1, 2, 3):
    lowers(f"aten::max_pool{_rank}d")(_max(_rank, False))
    lowers(f"aten::max_pool{_rank}d_with_indices")(_max(_rank, True))
    lowers(f"aten::avg_pool{_rank}d")(_avg(_rank))
    lowers(f"aten::adaptive_avg_pool{_rank}d", f"aten::_adaptive_avg_pool{_rank}d")(
        _adaptive(_rank, "avg")
    )
    lowers(f"aten::adaptive_max_pool{_rank}d")(_adaptive(_rank, "max"))


def _unpool(rank: int) -> Any:
    def function(
        b: Builder, self: Node, indices: Node, output_size: Sequence[int], **_: Any
    ) -> Node:
        x, many = batched(b, self, rank)
        places, _same = batched(b, indices, rank)
        y = b.call(
            "kit.pooling.max_unpool", to_last(b, x), to_last(b, places), rank, tuple(output_size)
        )
        return back(b, y, many)

    function.__name__ = f"max_unpool{rank}d"
    return function


for _rank in (2, 3):
    lowers(f"aten::max_unpool{_rank}d")(_unpool(_rank))
