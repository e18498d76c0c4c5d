"""Axes turned, reversed, read by strides; numbers moved to other places."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op("fliplr", "input | {input!}[:, ::-1]", mlx="flip", note="axis 1"),
    op("flipud", "input | {input!}[::-1]", mlx="flip", note="axis 0"),
    op("rot90", "input k dims | kit.stacking.rot90({input}«, {k}»«, dims={dims}»)"),
    op("adjoint", "input | kit.stacking.adjoint({input})"),
    op("diagflat", "input offset | mx.diag(mx.flatten({input})«, {offset}»)"),
    op("take", "input index | mx.take({input}, {index})", note="of the flattened array"),
    op("msort", "input | mx.sort({input}, axis=0)", note="axis 0"),
    op("view_as_real_copy", "input | kit.tensors.view_as_real({input})"),
    op("view_as_complex_copy", "input | kit.tensors.view_as_complex({input})"),
    op(
        "as_strided as_strided_copy",
        "input size stride storage_offset | mx.as_strided({input}, {size}, {stride}"
        "«, {storage_offset}»)",
        note="a copy, not a view",
        caution="of numbers row by row: torch reads the memory of a transposed view in its order",
    ),
    op("sum_to_size", "input *size | kit.reductions.sum_to_size({input}, {*size})"),
)
