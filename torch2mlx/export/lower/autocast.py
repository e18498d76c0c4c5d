"""Regions of torch.autocast: arguments are cast as torch casts them before each operator."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.capture.schemas import name_of
from torch2mlx.export.ir.builder import FLOATS, Builder
from torch2mlx.export.ir.nodes import Node

#: Operators that torch's autocast computes in the lower dtype (torch/csrc autocast_mode).
_AUTOCAST = (
    *("linear", "matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "mv", "addmv"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "prelu"),
    *("conv_transpose3d", "conv_tbc", "linalg_vecdot", "linalg_multi_dot", "chain_matmul"),
    *("scaled_dot_product_attention", "einsum", "lstm_cell", "gru_cell", "rnn_tanh_cell"),
)


def autocast(b: Builder, node: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments in the dtype that torch's autocast computes in: that of the result."""
    expected = node.meta.get("val")
    dtype = str(getattr(expected, "dtype", "")).rsplit(".", 1)[-1]
    name = name_of(node.target)
    lowered = dtype == "float32" or name.removeprefix("aten::") in _AUTOCAST
    if dtype not in FLOATS or not lowered or name in ("aten::to", "aten::_to_copy"):
        return arguments

    def cast(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(cast(item) for item in value)
        inner = isinstance(value, Node) and value.is_array and value.dtype in FLOATS
        return b.cast(value, dtype) if inner else value

    return {name: cast(value) for name, value in arguments.items()}
