"""Reads by position or by mask."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op(
        ".narrow",
        "input dim start length | kit.tensors.narrow({input}, {dim}, {start}, {length})",
        mlx="slice",
        note="plain slicing",
    ),
    op("narrow_copy", mlx="slice", note="plain slicing"),
    op("select", "input dim index | mx.take({input}, {index}, axis={dim})", note="plain indexing"),
    op(".index_select", "input dim index | mx.take({input}, {index}, axis={dim})", note="axis"),
    op(".take_along_dim", "input indices dim | mx.take_along_axis({input}, {indices}, axis={dim})"),
    op(
        ".gather",
        "input dim index | kit.indexing.gather({input}, {dim}, {index})",
        note="mx.take_along_axis where other dimensions agree",
    ),
    op(
        ".masked_select",
        "input mask | kit.indexing.masked_select({input}, {mask})",
        mlx="where",
        by_values=True,
    ),
    op(
        "where",
        "condition input other | mx.where({condition}, {input}, {other})",
        "condition | kit.arrangements.nonzero({condition}, as_tuple=True)",
        returns="by_tuple",
        layout="itemwise",
        made=True,
        also="kit.kinks.where",
    ),
    op(
        "nonzero",
        "input | kit.indexing.nonzero({input})",
        "input as_tuple | kit.arrangements.nonzero({input}, as_tuple={as_tuple})",
        mlx="where",
        returns="by_tuple",
        by_values=True,
    ),
    op(
        "nonzero_static",
        "input size fill_value | kit.indexing.nonzero_static({input}, {size}«, {fill_value}»)",
    ),
    op("argwhere", "input | kit.indexing.nonzero({input})", mlx="where", by_values=True),
)
