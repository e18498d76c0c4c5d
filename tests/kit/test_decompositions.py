"""Triangular factors of matrices whose rows are exchanged in every way there is, and variances."""

import itertools

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import torch

from torch2mlx import kit, translate, verify


def permuted(count):
    """Matrices whose pivots are the rows of each permutation in turn: (count!, count, count)."""
    torch.manual_seed(count)
    upper = torch.randn(count, count).triu(1) + torch.diag(torch.linspace(4, 2, count))
    lower = torch.eye(count) + 0.3 * torch.rand(count, count).tril(-1)
    rows = [list(order) for order in itertools.permutations(range(count))]
    return torch.stack([(lower @ upper)[order] for order in rows])


def same(found, expected):
    np.testing.assert_allclose(np.array(found), expected.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_factors_are_those_of_torch_for_every_order_of_rows(count):
    x = permuted(count)
    for found, expected in zip(
        kit.decompositions.lu(mx.array(x.numpy())), torch.linalg.lu(x), strict=True
    ):
        same(found, expected)
    factors, pivots = kit.decompositions.lu_factor(mx.array(x.numpy()))
    expected, swaps = torch.linalg.lu_factor(x)
    same(factors, expected)
    assert np.array(pivots).tolist() == swaps.tolist()
    right = torch.randn(len(x), count, 2)
    solved = kit.decompositions.lu_solve(factors, pivots, mx.array(right.numpy()))
    np.testing.assert_allclose(
        np.array(solved), torch.linalg.solve(x, right).numpy(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (3, 3, 5)])
def test_factors_in_a_model_are_those_of_torch(shape):
    class Factors(torch.nn.Module):
        def forward(self, x):
            return (*torch.linalg.lu(x), *torch.linalg.lu_factor(x))

    torch.manual_seed(1)
    args = (torch.randn(*shape),)
    assert verify(Factors(), translate(Factors(), args), args).ok


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5)])
def test_spreads_of_complex_numbers_are_those_of_torch(shape):
    torch.manual_seed(2)
    x = torch.randn(*shape, dtype=torch.complex64)
    held = mx.array(x.numpy())
    for axis, ddof in ((-1, 1), (0, 0), (None, 1)):
        dims = tuple(range(x.ndim)) if axis is None else axis
        same(kit.moments.std(held, axis, False, ddof), x.std(dims, correction=ddof))
        same(kit.moments.var(held, axis, True, ddof), x.var(dims, correction=ddof, keepdim=True))

    class Spread(torch.nn.Module):
        def forward(self, x):
            return x.std(0), *torch.std_mean(x, -1)

    assert verify(Spread(), translate(Spread(), (x,)), (x,)).ok
