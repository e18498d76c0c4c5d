"""Sparse tensors, which are dense arrays in MLX: the same numbers, with the zeros in memory."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

_DENSE = "MLX has no sparse arrays: it is dense there, with its zeros in memory"

ENTRIES = (
    op(
        "sparse_coo_tensor sparse.FloatTensor",
        "indices values size dtype- device- requires_grad- check_invariants- is_coalesced- | "
        "kit.sparse.dense({indices}, {values}«, {size}»)",
        made=True,
        note=_DENSE,
        caution=_DENSE,
    ),
    op(
        ".to_sparse .to_sparse_coo .coalesce .to_dense",
        "input | {input}",
        mlx="array",
        note=_DENSE,
        layout="elementwise",
    ),
    op("spmm sparse.mm", "input mat2 | {input!} @ {mat2!}", note=_DENSE),
    op(
        "sparse.addmm",
        "input mat1 mat2 beta alpha | mx.addmm({input}, {mat1}, {mat2}«, beta={beta}»«, "
        "alpha={alpha}»)",
        note=_DENSE,
    ),
)
