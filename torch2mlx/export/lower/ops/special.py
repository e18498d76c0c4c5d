"""Functions that the kit has and MLX lacks: gamma, Bessel and error functions, polynomials."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.functions import as_float
from torch2mlx.export.lower.ops.registry import lowers

#: torch's operators of one array -> the kit's function.
_OF_ONE = {
    "lgamma special_gammaln": "gamma.lgamma",
    "digamma special_digamma special_psi": "gamma.digamma",
    "i0 special_i0 special_modified_bessel_i0": "bessel.i0",
    "special_i0e": "bessel.i0e",
    "special_i1 special_modified_bessel_i1": "bessel.i1",
    "special_i1e": "bessel.i1e",
    "special_bessel_j0": "bessel.j0",
    "special_bessel_j1": "bessel.j1",
    "special_bessel_y0": "bessel.y0",
    "special_bessel_y1": "bessel.y1",
    "special_modified_bessel_k0": "bessel.k0",
    "special_modified_bessel_k1": "bessel.k1",
    "special_scaled_modified_bessel_k0": "bessel.k0e",
    "special_scaled_modified_bessel_k1": "bessel.k1e",
    "special_spherical_bessel_j0": "bessel.spherical_j0",
    "special_erfcx": "bessel.erfcx",
    "special_log_ndtr": "bessel.log_ndtr",
}


def _of_one(theirs: str) -> Any:
    def function(b: Builder, self: Any = None, x: Any = None) -> Node:
        return b.call(f"kit.{theirs}", self if self is not None else x)

    function.__name__ = theirs.rsplit(".", 1)[-1]
    return function


for _names, _theirs in _OF_ONE.items():
    lowers(*(f"aten::{name}" for name in _names.split()))(_of_one(_theirs))


@lowers("aten::polygamma", "aten::special_polygamma")
def polygamma(b: Builder, n: int, self: Node) -> Node:
    """The n-th derivative of digamma."""
    return b.call("kit.gamma.polygamma", n, self)


@lowers("aten::mvlgamma", "aten::special_multigammaln")
def mvlgamma(b: Builder, self: Node, p: int) -> Node:
    """The multivariate log-gamma function."""
    return b.call("kit.gamma.mvlgamma", self, p)


@lowers("aten::special_zeta")
def zeta(b: Builder, self: Any, other: Any) -> Node:
    """Hurwitz' zeta function."""
    return b.call("kit.gamma.zeta", *(as_float(b, b.array(v)) for v in (self, other)))


#: torch's families of polynomials -> the kit's.
_FAMILIES = {
    **{f"chebyshev_polynomial_{kind}": f"chebyshev_{kind}" for kind in "tuvw"},
    "hermite_polynomial_h": "hermite_h",
    "hermite_polynomial_he": "hermite_he",
    "laguerre_polynomial_l": "laguerre_l",
    "legendre_polynomial_p": "legendre_p",
}


def _polynomial(family: str, shifted: bool) -> Any:
    options = {"shifted": True} if shifted else {}

    def function(b: Builder, x: Any, n: Any) -> Node:
        return b.call("kit.polynomials.polynomial", family, x, n, **options)

    function.__name__ = family
    return function


for _name, _family in _FAMILIES.items():
    lowers(f"aten::special_{_name}")(_polynomial(_family, False))
    if _name.startswith("chebyshev"):
        lowers(f"aten::special_shifted_{_name}")(_polynomial(_family, True))
