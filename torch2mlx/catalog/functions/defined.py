"""Functions that the kit defines by others: Bessel functions, polynomials, mirrored spectra, LU."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

#: Names under torch.special -> the kit's function of one array.
_OF_ONE = {
    "gammaln": "gamma.lgamma",
    "digamma psi": "gamma.digamma",
    "i0 modified_bessel_i0": "bessel.i0",
    "i0e": "bessel.i0e",
    "i1 modified_bessel_i1": "bessel.i1",
    "i1e": "bessel.i1e",
    "bessel_j0": "bessel.j0",
    "bessel_j1": "bessel.j1",
    "bessel_y0": "bessel.y0",
    "bessel_y1": "bessel.y1",
    "modified_bessel_k0": "bessel.k0",
    "modified_bessel_k1": "bessel.k1",
    "scaled_modified_bessel_k0": "bessel.k0e",
    "scaled_modified_bessel_k1": "bessel.k1e",
    "spherical_bessel_j0": "bessel.spherical_j0",
    "erfcx": "bessel.erfcx",
    "log_ndtr": "bessel.log_ndtr",
}
#: Names under torch.special -> the kit's family.
_FAMILIES = {
    **{f"chebyshev_polynomial_{kind}": f"chebyshev_{kind}" for kind in "tuvw"},
    "hermite_polynomial_h": "hermite_h",
    "hermite_polynomial_he": "hermite_he",
    "laguerre_polynomial_l": "laguerre_l",
    "legendre_polynomial_p": "legendre_p",
}


def _special(names: str) -> str:
    return " ".join(f"special.{name}" for name in names.split())


ENTRIES = (
    op(".lgamma", "input | kit.gamma.lgamma({input})", layout="elementwise"),
    op(".digamma", "input | kit.gamma.digamma({input})", layout="elementwise"),
    op(
        ".polygamma special.polygamma",
        "n input | kit.gamma.polygamma({n}, {input})",
        layout="elementwise",
        made=True,
    ),
    op("mvlgamma", "input p | kit.gamma.mvlgamma({input}, {p})", layout="elementwise"),
    op("i0", "input | kit.bessel.i0({input})", layout="elementwise"),
    *(
        op(_special(names), f"input | kit.{theirs}({{input}})", layout="elementwise")
        for names, theirs in _OF_ONE.items()
    ),
    *(
        op(
            f"special.{name}",
            f'input n | kit.polynomials.polynomial("{family}", {{input}}, {{n}})',
            layout="itemwise",
        )
        for name, family in _FAMILIES.items()
    ),
    *(
        op(
            f"special.shifted_chebyshev_polynomial_{kind}",
            f'input n | kit.polynomials.polynomial("chebyshev_{kind}", {{input}}, {{n}},'
            " shifted=True)",
            layout="itemwise",
        )
        for kind in "tuvw"
    ),
    op("special.multigammaln", "input p | kit.gamma.mvlgamma({input}, {p})", layout="elementwise"),
    op("special.zeta", "input other | kit.gamma.zeta({input}, {other})", layout="pairwise"),
    *(
        op(
            f"fft.{name}",
            f"input n dim norm | kit.signal.{name}({{input}}«, n={{n}}»«, dim={{dim}}»"
            "«, norm={norm}»)",
        )
        for name in ("hfft", "ihfft")
    ),
    *(
        op(
            f"fft.{name}n",
            f"input s dim norm | kit.signal.{name}n({{input}}«, s={{s}}»«, dim={{dim}}»"
            "«, norm={norm}»)",
        )
        for name in ("hfft", "ihfft")
    ),
    *(
        op(
            f"fft.{name}2",
            f"input s dim norm | kit.signal.{name}n({{input}}«, s={{s}}»,"
            " dim={dim|(-2, -1)}«, norm={norm}»)",
        )
        for name in ("hfft", "ihfft")
    ),
    op(
        "kaiser_window",
        "window_length periodic beta dtype | kit.tapers.kaiser_window({window_length}"
        "«, {periodic}»«, beta={beta}»«, dtype={dtype}»)",
        made=True,
    ),
    op(
        "lu_solve",
        "input LU_data LU_pivots | kit.decompositions.lu_solve({LU_data}, {LU_pivots}, {input})",
        note="factors and pivots come first",
    ),
    op(
        "linalg.lu_solve",
        "LU pivots B left adjoint | kit.decompositions.lu_solve({LU}, {pivots}, {B}"
        "«, left={left}»«, adjoint={adjoint}»)",
    ),
    op(
        "lu_unpack",
        "LU_data LU_pivots | kit.decompositions.lu_unpack({LU_data}, {LU_pivots})",
        returns="triple",
    ),
    op("linalg.lu", "A | kit.decompositions.lu({A})", returns="triple"),
    op("linalg.lu_factor", "A | kit.decompositions.lu_factor({A})", returns="pair"),
    op("linalg.lu_factor_ex", note="nothing tells of an error: use torch.linalg.lu_factor"),
    op(
        "linalg.matrix_rank",
        "A atol rtol hermitian | kit.decompositions.matrix_rank({A}«, atol={atol}»"
        "«, rtol={rtol}»«, hermitian={hermitian}»)",
    ),
    op("linalg.cond", "A p | kit.decompositions.cond({A}«, {p}»)"),
    op("linalg.tensorinv", "A ind | kit.decompositions.tensorinv({A}«, {ind}»)"),
    op(
        "linalg.tensorsolve",
        "A B dims | kit.decompositions.tensorsolve({A}, {B}«, dims={dims}»)",
    ),
)
