"""Gamma, Bessel and error functions and orthogonal polynomials, beside torch's in value and
gradient."""

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import torch

from torch2mlx.kit import bessel, gamma, polynomials

SPECIAL = torch.special
#: Both sides of all that the formulas tell apart: 0, poles, the reflected half, near and far.
LINE = np.concatenate(
    [np.linspace(-9.3, 30, 400), [0.0, -0.0, 1, 2, 3, 1e-6, -1e-6, 100.5, np.nan]]
)
SMOOTH = {
    "lgamma": (gamma.lgamma, torch.lgamma),
    "digamma": (gamma.digamma, torch.digamma),
    "trigamma": (lambda x: gamma.polygamma(1, x), lambda x: torch.polygamma(1, x)),
    "polygamma": (lambda x: gamma.polygamma(4, x), lambda x: torch.polygamma(4, x)),
    "i0": (bessel.i0, torch.i0),
    "i0e": (bessel.i0e, SPECIAL.i0e),
    "i1": (bessel.i1, SPECIAL.i1),
    "i1e": (bessel.i1e, SPECIAL.i1e),
    "erfcx": (bessel.erfcx, SPECIAL.erfcx),
    "log_ndtr": (bessel.log_ndtr, SPECIAL.log_ndtr),
}
OTHERS = {
    "j0": (bessel.j0, SPECIAL.bessel_j0),
    "j1": (bessel.j1, SPECIAL.bessel_j1),
    "y0": (bessel.y0, SPECIAL.bessel_y0),
    "y1": (bessel.y1, SPECIAL.bessel_y1),
    "k0": (bessel.k0, SPECIAL.modified_bessel_k0),
    "k1": (bessel.k1, SPECIAL.modified_bessel_k1),
    "k0e": (bessel.k0e, SPECIAL.scaled_modified_bessel_k0),
    "k1e": (bessel.k1e, SPECIAL.scaled_modified_bessel_k1),
    "spherical_j0": (bessel.spherical_j0, SPECIAL.spherical_bessel_j0),
}


def agrees(found, expected, relative=2e-5):
    """Equal to so much of each value: these functions are large in one place, small in another."""
    found, expected = np.array(found.astype(mx.float32)), expected.detach().float().numpy()
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(found - expected) <= relative * np.maximum(np.abs(expected), 0.1)
    assert (same | near).all(), (found[~(same | near)], expected[~(same | near)])


@pytest.mark.parametrize("name", (*SMOOTH, *OTHERS))
def test_values_along_the_line(name):
    ours, theirs = {**SMOOTH, **OTHERS}[name]
    # next to its poles torch's trigamma loses digits: it divides by a sine of pi * x itself
    line = LINE[np.abs(LINE - np.round(LINE)) > 0.1] if name == "trigamma" else LINE
    x = line.astype(np.float32)
    agrees(ours(mx.array(x)), theirs(torch.from_numpy(x)))


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes(name):
    ours, theirs = SMOOTH[name]
    x = np.concatenate([np.linspace(-3.7, -0.2, 23), np.linspace(0.2, 12.3, 37)]).astype(np.float32)
    given = torch.from_numpy(x).requires_grad_()
    theirs(given).sum().backward()
    agrees(mx.grad(lambda x: ours(x).sum())(mx.array(x)), given.grad, 1e-4)


@pytest.mark.parametrize("name", [n for n in SMOOTH if n not in ("erfcx", "log_ndtr")])
def test_half_formats_and_whole_numbers_are_computed_in_float32(name):
    ours, theirs = SMOOTH[name]
    whole = np.arange(1, 6)
    agrees(ours(mx.array(whole)), theirs(torch.from_numpy(whole)))
    for dtype in ("float16", "bfloat16"):
        x = torch.linspace(0.5, 4, 9).to(getattr(torch, dtype))
        found = ours(mx.array(x.float().numpy()).astype(getattr(mx, dtype)))
        assert found.dtype == getattr(mx, dtype)
        agrees(found, theirs(x), 2e-2)


def test_zeta_and_its_slope():
    s = np.array([1.5, 3.0, 2.0, 4.0, 1.0, 0.5, 2.5, 3.0], np.float32)
    q = np.array([2.5, 0.3, -1.5, 7.0, 2.0, 2.0, -0.5, -2.0], np.float32)
    agrees(
        gamma.zeta(mx.array(s), mx.array(q)), SPECIAL.zeta(torch.from_numpy(s), torch.from_numpy(q))
    )
    row, column = np.array([[2.5, 4.0]], np.float32), np.array([[0.7], [1.9], [3.0]], np.float32)
    given = torch.from_numpy(column).requires_grad_()
    SPECIAL.zeta(torch.from_numpy(row), given).sum().backward()
    found = mx.grad(lambda q: gamma.zeta(mx.array(row), q).sum())(mx.array(column))
    close(found, given.grad)


def test_mvlgamma():
    x = np.linspace(2.5, 9, 8).astype(np.float32)
    close(gamma.mvlgamma(mx.array(x), 4), torch.mvlgamma(torch.from_numpy(x), 4))


@pytest.mark.parametrize("family", ("t", "u", "v", "w"))
@pytest.mark.parametrize("shifted", (False, True))
def test_chebyshev_polynomials(family, shifted):
    name = f"{'shifted_' if shifted else ''}chebyshev_polynomial_{family}"
    x, n = np.linspace(0.02, 0.98, 24, dtype=np.float32), np.arange(24) % 7 - 1
    found = polynomials.polynomial(f"chebyshev_{family}", mx.array(x), mx.array(n), shifted)
    close(found, getattr(SPECIAL, name)(torch.from_numpy(x), torch.from_numpy(n)))


@pytest.mark.parametrize("family", ("hermite_h", "hermite_he", "laguerre_l", "legendre_p"))
def test_other_polynomials(family):
    theirs = getattr(SPECIAL, family.replace("_", "_polynomial_"))
    x = np.linspace(-0.9, 0.9, 24, dtype=np.float32)
    for n in (-1, 0, 1, 5):
        agrees(polynomials.polynomial(family, mx.array(x), n), theirs(torch.from_numpy(x), n))


@pytest.mark.parametrize("family", ("chebyshev_t", "hermite_he", "laguerre_l", "legendre_p"))
def test_degrees_of_floats_are_cut_towards_zero(family):
    theirs = getattr(SPECIAL, family.replace("_", "_polynomial_", 1))
    n = np.array([-1.5, -1.0, -0.5, -0.0, 0.5, 1.0, 2.9, 5.0], np.float32)
    x = np.linspace(-0.9, 0.9, 8, dtype=np.float32)
    found = polynomials.polynomial(family, mx.array(x), mx.array(n))
    close(found, theirs(torch.from_numpy(x), torch.from_numpy(n)))


def test_an_unknown_family_is_an_error():
    with pytest.raises(ValueError, match="family='jacobi': choose one of chebyshev_t, "):
        polynomials.polynomial("jacobi", mx.ones(2), 2)
