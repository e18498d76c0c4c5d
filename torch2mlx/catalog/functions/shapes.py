"""Axes turned, reversed, read by strides; numbers moved to other places."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op("reshape", "input *shape | mx.reshape({input}, {*shape})"),
    op("view", "input *shape | mx.reshape({input}, {*shape})", mlx="view"),
    op(".view_as .reshape_as", "input other | {input!}.reshape({other!}.shape)", mlx="reshape"),
    op("flatten", "input start_dim end_dim | mx.flatten({input}«, {start_dim}»«, {end_dim}»)"),
    op("ravel", "input | mx.flatten({input})"),
    op(".unflatten", "input dim sizes | mx.unflatten({input}, {dim}, {sizes})"),
    op(
        "squeeze",
        "input | mx.squeeze({input})",
        "input dim | kit.tensors.squeeze({input}«, {dim}»)",
    ),
    op(".unsqueeze", "input dim | mx.expand_dims({input}, {dim})"),
    op(".permute", "input *dims | mx.transpose({input}, {*dims})"),
    op("transpose swapaxes .swapdims", "input dim0 dim1 | mx.swapaxes({input}, {dim0}, {dim1})"),
    op(".t", "input | {input!}.T", mlx="transpose"),
    op(
        ".movedim moveaxis",
        "input source destination | kit.tensors.moveaxis({input}, {source}, {destination})",
        mlx="moveaxis",
    ),
    op(
        ".expand",
        "input *size | kit.tensors.expand({input}, {*size})",
        mlx="broadcast_to",
        note="-1 keeps a size in torch",
    ),
    op(".expand_as", "input other | mx.broadcast_to({input}, {other!}.shape)", layout="pairwise"),
    op(".broadcast_to", "input size | mx.broadcast_to({input}, {size})"),
    op("repeat", "input *repeats | mx.tile({input}, {(repeats)})"),
    op("tile", "input *dims | mx.tile({input}, {(dims)})"),
    op(
        ".repeat_interleave",
        "input repeats dim | kit.tensors.repeat_interleave({input}, {repeats}«, dim={dim}»)",
        mlx="repeat",
    ),
    op(".flip", "input *dims | mx.flip({input}, {(dims)})"),
    op("roll", "input shifts dims | mx.roll({input}, {shifts}«, {dims}»)"),
    op("diag", "input diagonal | mx.diag({input}«, {diagonal}»)"),
    op(
        "diagonal",
        "input offset dim1 dim2 | mx.diagonal({input}«, offset={offset}»«, axis1={dim1}»«, "
        "axis2={dim2}»)",
    ),
    op(
        ".diag_embed",
        "input offset dim1 dim2 | kit.arrangements.diag_embed({input}«, offset={offset}»«, "
        "dim1={dim1}»«, dim2={dim2}»)",
        mlx="diag",
        note="of each row",
    ),
    op(".tril", "input diagonal | mx.tril({input}«, {diagonal}»)"),
    op(".triu", "input diagonal | mx.triu({input}«, {diagonal}»)"),
    op(
        ".unfold",
        "input dimension size step | kit.arrangements.unfold({input}, {dimension}, {size}, {step})",
        mlx="as_strided",
    ),
    op(
        "view_as_real",
        "input | kit.tensors.view_as_real({input})",
        mlx="array.view",
        note="float32",
    ),
    op(
        "view_as_complex",
        "input | kit.tensors.view_as_complex({input})",
        mlx="array.view",
        note="complex64",
    ),
    op("fliplr", "input | {input!}[:, ::-1]", mlx="flip", note="axis 1"),
    op("flipud", "input | {input!}[::-1]", mlx="flip", note="axis 0"),
    op("rot90", "input k dims | kit.stacking.rot90({input}«, {k}»«, dims={dims}»)"),
    op("adjoint", "input | kit.stacking.adjoint({input})"),
    op(".diagflat", "input offset | mx.diag(mx.flatten({input})«, {offset}»)"),
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
