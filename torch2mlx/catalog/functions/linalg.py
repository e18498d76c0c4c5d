"""Products and decompositions of matrices."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op(
        "addbmm",
        "input batch1 batch2 beta alpha | «{beta!} * »{input!} +"
        " «{alpha!} * »mx.sum({batch1!} @ {batch2!}, axis=0)",
        mlx="matmul",
        note="add and sum over the batch",
    ),
    op(
        "addmv",
        "input mat vec beta alpha | «{beta!} * »{input!} + «{alpha!} * »({mat!} @ {vec!})",
        mlx="addmm",
    ),
    op(
        "addr",
        "input vec1 vec2 beta alpha | «{beta!} * »{input!} + «{alpha!} * »mx.outer({vec1}, {vec2})",
        mlx="outer",
    ),
    op("chain_matmul", "*matrices | kit.matrices.multi_dot(({*matrices},))", made=True),
    op("linalg.multi_dot", "tensors | kit.matrices.multi_dot({tensors})"),
    op("cholesky", "input upper | mx.linalg.cholesky({input}«, upper={upper}», stream=mx.cpu)"),
    op(
        "cholesky_solve",
        "input L upper | kit.matrices.cholesky_solve({input}, {L}«, upper={upper}»)",
    ),
    op(
        "cov",
        "input correction fweights aweights | kit.matrices.cov({input}"
        "«, correction={correction}»«, fweights={fweights}»«, aweights={aweights}»)",
    ),
    op("det", "input | kit.algebra.det({input})"),
    op("logdet", "input | kit.algebra.logdet({input})"),
    op("slogdet", "input | kit.algebra.slogdet({input})", returns="pair"),
    op("matrix_exp linalg.matrix_exp", "A | kit.algebra.matrix_exp({A})"),
    op("matrix_power", "input n | kit.matrices.matrix_power({input}, {n})"),
    op("linalg.matrix_power", "A n | kit.matrices.matrix_power({A}, {n})"),
    op("orgqr", "input tau | kit.algebra.householder_product({input}, {tau})"),
    op("linalg.householder_product", "A tau | kit.algebra.householder_product({A}, {tau})"),
    op("pinverse", "input rcond | kit.matrices.pinverse({input}«, {rcond}»)"),
    op(
        "svd",
        "input some compute_uv | kit.matrices.svd({input}«, some={some}»"
        "«, compute_uv={compute_uv}»)",
        returns="triple",
    ),
    op("linalg.svdvals", "A | kit.matrices.svdvals({A})"),
    op("vander", "x N increasing | kit.matrices.vander({x}«, {N}»«, increasing={increasing}»)"),
    op("linalg.vander", "x N | kit.matrices.vander({x}«, {N}», increasing=True)"),
    op(
        "linalg.vector_norm",
        "x ord dim keepdim | kit.matrices.vector_norm({x}«, {ord}»"
        "«, dim={dim}»«, keepdim={keepdim}»)",
    ),
    op(
        "linalg.matrix_norm",
        "A ord dim keepdim | kit.matrices.matrix_norm({A}«, {ord}»"
        "«, dim={dim}»«, keepdim={keepdim}»)",
    ),
    op(
        "linalg.cholesky_ex",
        "input upper check_errors | kit.matrices.cholesky_ex({input}«, upper={upper}»)",
        returns="pair",
        note="zeros as info code",
    ),
    op(
        "linalg.inv_ex",
        "A check_errors | kit.matrices.inv_ex({A})",
        returns="pair",
        note="zeros as info code",
    ),
    op(
        "linalg.solve_ex",
        "A B left check_errors | kit.matrices.solve_ex({A}, {B}«, left={left}»)",
        returns="pair",
        note="zeros as info code",
    ),
)
