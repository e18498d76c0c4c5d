"""Products and decompositions of matrices."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import Returns, op

#: Functions under torch.linalg that mlx.core.linalg has under the same name, and what they return.
_SAME: dict[str, Returns] = {
    "cholesky": "tensor",
    "cross": "tensor",
    "det": "tensor",
    "eig": "pair",
    "eigh": "pair",
    "eigvals": "tensor",
    "eigvalsh": "tensor",
    "inv": "tensor",
    "norm": "tensor",
    "pinv": "tensor",
    "qr": "pair",
    "slogdet": "pair",
    "solve": "tensor",
    "solve_triangular": "tensor",
    "svd": "triple",
}

ENTRIES = (
    *(
        op(f"linalg.{name}", same=f"mx.linalg.{name}", returns=returns)
        for name, returns in _SAME.items()
    ),
    op("matmul .mm .bmm .mv", "input other | {input!} @ {other!}"),
    op(
        ".addmm .baddbmm",
        "input mat1 mat2 beta alpha | mx.addmm({input}, {mat1}, {mat2}«, beta={beta}»«, "
        "alpha={alpha}»)",
    ),
    op("einsum", "equation *operands | mx.einsum({equation}, {*operands})", made=True),
    op("tensordot", "a b dims | mx.tensordot({a}, {b}«, {dims}»)"),
    op(
        "cross",
        "input other dim | kit.arrangements.cross({input}, {other}«, {dim}»)",
        mlx="linalg.cross",
    ),
    op("cdist", "input x2 p | kit.distance.cdist({input}, {x2}«, {p}»)"),
    op("cholesky_inverse", "input upper | kit.decompositions.cholesky_inverse({input}«, {upper}»)"),
    op("outer ger", "input other | mx.outer({input}, {other})"),
    op(".kron", "input other | mx.kron({input}, {other})"),
    op("dot .vdot inner", "input other | mx.inner({input}, {other})"),
    op("inverse", "input | mx.linalg.inv({input}, stream=mx.cpu)", note="CPU stream only"),
    op("linalg.matmul", "input other | {input!} @ {other!}"),
    op(
        "linalg.diagonal",
        "A offset dim1 dim2 | mx.diagonal({A}, {offset|0}, {dim1|-2}, {dim2|-1})",
        note="axes -2 and -1 there",
    ),
    op("linalg.vecdot", "x y dim | mx.vecdot({x}, {y}«, axis={dim}»)"),
    op("linalg.lstsq", mlx="linalg.pinv", note="mx.linalg.pinv(A) times the right-hand side"),
    op(
        ".addbmm",
        "input batch1 batch2 beta alpha | «{beta!} * »{input!} +"
        " «{alpha!} * »mx.sum({batch1!} @ {batch2!}, axis=0)",
        mlx="matmul",
        note="add and sum over the batch",
    ),
    op(
        ".addmv",
        "input mat vec beta alpha | «{beta!} * »{input!} + «{alpha!} * »({mat!} @ {vec!})",
        mlx="addmm",
        note="input + (mat @ vec)",
    ),
    op(
        ".addr",
        "input vec1 vec2 beta alpha | «{beta!} * »{input!} + «{alpha!} * »mx.outer({vec1}, {vec2})",
        mlx="outer",
        note="input + mx.outer(vec1, vec2)",
    ),
    op("chain_matmul", "*matrices | kit.matrices.multi_dot(({*matrices},))", made=True),
    op("linalg.multi_dot", "tensors | kit.matrices.multi_dot({tensors})", made=True),
    op("cholesky", "input upper | kit.algebra.cholesky({input}«, upper={upper}»)"),
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
    op(".logdet", "input | kit.algebra.logdet({input})"),
    op("slogdet", "input | kit.algebra.slogdet({input})", returns="pair"),
    op(".matrix_exp linalg.matrix_exp", "A | kit.algebra.matrix_exp({A})"),
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
