"""Writes by position or by mask, as values."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op(
        ".scatter",
        "input dim index src | kit.indexing.scatter({input}, {dim}, {index}, {src})",
        note="or x[...] = values",
    ),
    op(
        ".scatter_add",
        "input dim index src | kit.indexing.scatter_add({input}, {dim}, {index}, {src})",
        note="or x.at[...].add(values)",
    ),
    op(
        ".scatter_reduce",
        "input dim index src reduce include_self | kit.indexing.scatter_reduce({input}, "
        "{dim}, {index}, {src}, {reduce}«, include_self={include_self}»)",
    ),
    op(
        ".index_add",
        "input dim index source alpha | kit.indexing.index_add({input}, {dim}, {index}, "
        "«{alpha!} * »{source})",
        note="or x.at[...].add(values)",
    ),
    op(
        "index_reduce",
        "input dim index source reduce include_self | kit.segments.index_reduce({input}, "
        "{dim}, {index}, {source}, {reduce}«, include_self={include_self}»)",
    ),
    op(".masked_fill", "input mask value | mx.where({mask}, {value}, {input})", layout="itemwise"),
    op(
        ".index_copy",
        "input dim index source | kit.writes.index_copy({input}, {dim}, {index}, {source})",
    ),
    op(
        ".index_fill",
        "input dim index value | kit.writes.index_fill({input}, {dim}, {index}, {value})",
    ),
    op(
        ".fill_diagonal",
        "input fill_value wrap | kit.writes.fill_diagonal({input}, {fill_value}«, {wrap}»)",
        note="in place alone",
    ),
    op(
        ".index_put",
        "input indices values accumulate | kit.indexing.index_put({input}, {indices}, {values}"
        "«, {accumulate}»)",
        note="or x[...] = values",
    ),
    op(
        ".masked_scatter",
        "input mask source | kit.indexing.masked_scatter({input}, {mask}, {source})",
    ),
    op(
        "put",
        "input index source accumulate | kit.writes.put({input}, {index}, {source}"
        "«, {accumulate}»)",
    ),
    op(
        "select_scatter",
        "input src dim index | kit.writes.select_scatter({input}, {src}, {dim}, {index})",
        note="or x[:, i] = source",
    ),
    op(
        "slice_scatter",
        "input src dim start end step | kit.writes.slice_scatter({input}, {src}«, {dim}»"
        "«, start={start}»«, end={end}»«, step={step}»)",
        note="or x[a:b] = source",
    ),
    op(
        "diagonal_scatter",
        "input src offset dim1 dim2 | kit.indexing.diagonal_scatter({input}, {src}"
        "«, offset={offset}»«, dim1={dim1}»«, dim2={dim2}»)",
    ),
)
