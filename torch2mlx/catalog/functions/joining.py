"""Joining arrays, cutting them into parts."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op(
        "cat",
        "tensors dim | mx.concatenate({tensors}«, axis={dim}»)",
        note="dim is axis",
        layout="joining",
        made=True,
    ),
    op(
        "concat concatenate",
        "tensors dim | mx.concatenate({tensors}«, axis={dim}»)",
        layout="joining",
        made=True,
    ),
    op("stack", "tensors dim | mx.stack({tensors}«, axis={dim}»)", made=True),
    op("hstack", "tensors | kit.tensors.hstack({tensors})", mlx="concatenate", made=True),
    op("vstack", "tensors | kit.tensors.vstack({tensors})", mlx="concatenate", made=True),
    op(
        "split",
        "input split_size dim | kit.tensors.split({input}, {split_size}«, {dim}»)",
        mlx="split",
        note="torch gives the size of a piece, MLX the number of pieces or cuts",
        returns="list",
        layout="parting",
    ),
    op(
        ".chunk",
        "input chunks dim | kit.tensors.chunk({input}, {chunks}«, {dim}»)",
        mlx="split",
        note="mx.split takes the number of sections and wants them equal",
        returns="list",
        layout="parting",
    ),
    op(
        ".unbind",
        "input dim | kit.tensors.unbind({input}«, {dim}»)",
        mlx="split",
        note="list(x) for the first axis",
        returns="list",
    ),
    op(
        ".split_with_sizes",
        "input split_sizes dim | kit.tensors.split({input}, {split_sizes}«, {dim}»)",
        mlx="split",
        note="cuts are sums of sizes",
    ),
    op(
        "meshgrid",
        "*tensors indexing | kit.tensors.meshgrid({*tensors}«, indexing={indexing}»)",
        mlx="meshgrid",
        note='indexing is "ij" in torch, "xy" in MLX',
        returns="list",
        made=True,
    ),
    op(
        "cartesian_prod",
        "*tensors | kit.arrangements.cartesian_prod({*tensors})",
        mlx="meshgrid",
        made=True,
    ),
    op(
        "combinations",
        "input r with_replacement | kit.arrangements.combinations({input}«, {r}»«, "
        "with_replacement={with_replacement}»)",
        mlx="take",
        untraced="which pairs there are is asked of the values",
    ),
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
        ".tensor_split",
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
