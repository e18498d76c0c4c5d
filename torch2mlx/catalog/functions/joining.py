"""Joining arrays, cutting them into parts."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op("column_stack", "tensors | kit.stacking.column_stack({tensors})", made=True),
    op("dstack", "tensors | kit.stacking.dstack({tensors})", made=True),
    op("row_stack", "tensors | kit.tensors.vstack({tensors})", made=True),
    op("block_diag", "*tensors | kit.stacking.block_diag({*tensors})", made=True),
    op(
        "broadcast_tensors",
        "*tensors | kit.stacking.broadcast_tensors({*tensors})",
        returns="list",
        made=True,
    ),
    op(
        "atleast_1d",
        "*tensors | kit.stacking.atleast(1, {*tensors})",
        mlx="atleast_1d",
        returns="as_given",
    ),
    op(
        "atleast_2d",
        "*tensors | kit.stacking.atleast(2, {*tensors})",
        mlx="atleast_2d",
        returns="as_given",
    ),
    op(
        "atleast_3d",
        "*tensors | kit.stacking.atleast(3, {*tensors})",
        mlx="atleast_3d",
        returns="as_given",
    ),
    op(
        "tensor_split",
        "input indices_or_sections dim | kit.stacking.tensor_split({input}, {indices_or_sections}"
        "«, {dim}»)",
        returns="list",
    ),
    op(
        "hsplit",
        "input indices_or_sections | kit.stacking.hsplit({input}, {indices_or_sections})",
        returns="list",
    ),
    op(
        "vsplit",
        "input indices_or_sections | kit.stacking.tensor_split({input}, {indices_or_sections})",
        returns="list",
    ),
    op(
        "dsplit",
        "input indices_or_sections | kit.stacking.tensor_split({input}, {indices_or_sections}, 2)",
        returns="list",
    ),
    op(
        "unsafe_split",
        "input split_size dim | kit.tensors.split({input}, {split_size}«, {dim}»)",
        returns="list",
    ),
    op(
        "unsafe_split_with_sizes split_with_sizes_copy",
        "input split_sizes dim | kit.tensors.split({input}, {split_sizes}«, {dim}»)",
        returns="list",
    ),
    op(
        "unsafe_chunk",
        "input chunks dim | kit.tensors.chunk({input}, {chunks}«, {dim}»)",
        returns="list",
    ),
)
