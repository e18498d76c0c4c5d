"""Order: sorting, ranks, quantiles; counting and telling apart."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op(
        "sort",
        "input dim descending | kit.sorting.sort({input}«, {dim}»«, descending={descending}»)",
        note="mx.sort gives values only",
        returns="pair",
    ),
    op(
        "argsort",
        "input dim descending | kit.tensors.argsort({input}«, {dim}»«, descending={descending}»)",
        mlx="argsort",
        note="no descending: sort the negative",
    ),
    op(
        ".topk",
        "input k dim largest sorted | kit.sorting.topk({input}, {k}«, {dim}»«, largest={largest}»)",
        note="mx.topk does not sort and gives no indices",
        returns="pair",
    ),
    op(
        ".kthvalue",
        "input k dim keepdim | kit.sorting.kthvalue({input}, {k}«, {dim}»«, keepdim={keepdim}»)",
        returns="pair",
    ),
    op(
        "searchsorted",
        "sorted_sequence input right | kit.sorting.searchsorted({sorted_sequence}, {input}«, "
        "right={right}»)",
        mlx="searchsorted",
    ),
    op(
        "bucketize",
        "input boundaries right | kit.sorting.bucketize({input}, {boundaries}«, right={right}»)",
    ),
    op(
        "quantile",
        "input q dim keepdim interpolation | kit.sorting.quantile({input}, mx.array({q})"
        "«, {dim}»«, keepdim={keepdim}»«, interpolation={interpolation}»)",
        mlx="sort",
        note="and interpolate",
    ),
    op(
        "nanquantile",
        "input q dim keepdim interpolation | kit.sorting.quantile({input}, mx.array({q})"
        "«, {dim}»«, keepdim={keepdim}»«, interpolation={interpolation}», ignore_nan=True)",
        mlx="kit.sorting.quantile",
    ),
    op(
        "bincount",
        "input minlength | kit.tensors.bincount({input}«, minlength={minlength}»)",
        mlx="array.at",
        note="zeros.at[x].add(1)",
    ),
    op(
        "unique",
        "input sorted return_inverse return_counts dim | kit.distinct.unique({input}«, "
        "return_inverse={return_inverse}»«, return_counts={return_counts}»«, dim={dim}»)",
        mlx="where",
        returns="by_flags",
        by_values=True,
    ),
    op(
        "unique_consecutive",
        "input return_inverse return_counts dim | kit.distinct.unique_consecutive({input}«, "
        "return_inverse={return_inverse}»«, return_counts={return_counts}»«, dim={dim}»)",
        mlx="where",
        returns="by_flags",
        by_values=True,
    ),
)
