"""Weights that are computed: orthogonal ones, and what they need of linear algebra."""

import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.kit import algebra

pytestmark = pytest.mark.filterwarnings("ignore:.*0/1 specialized")


class Skew(nn.Module):
    def forward(self, x):
        above = x.triu(1)
        return above - above.mT


class Exponential(nn.Module):
    def forward(self, x):
        return torch.matrix_exp(x)


class Inverse(nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x + 3 * torch.eye(len(x)))


def chained(layer, *kinds):
    for kind in kinds:
        parametrize.register_parametrization(layer, "weight", kind())
    return layer


def orthogonal(way, inputs=5, outputs=5, **options):
    return parametrizations.orthogonal(nn.Linear(inputs, outputs), orthogonal_map=way, **options)


CASES = {
    **{way: lambda way=way: orthogonal(way) for way in ("matrix_exp", "cayley", "householder")},
    "tall": lambda: orthogonal("householder", 5, 7),
    "wide": lambda: orthogonal("cayley", 5, 3),
    "rotation": lambda: orthogonal("matrix_exp", use_trivialization=False),
    "skew, then exponential": lambda: chained(nn.Linear(5, 5), Skew, Exponential),
    "inverse": lambda: chained(nn.Linear(5, 5), Inverse),
    "default": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(5, 5)), nn.Tanh()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_computed_weight_trains_as_in_torch(name):
    torch.manual_seed(3)
    model, x = CASES[name]().train(), torch.randn(4, 5)
    made = torch2mlx.translate(model, (x,))
    assert torch2mlx.verify(model, made, (x,), gradients=True).ok
    module, theirs = made.module, torch.optim.SGD(model.parameters(), 0.1)
    ours = mlx.optimizers.SGD(0.1)
    step = mlx.nn.value_and_grad(module, lambda: mx.square(module(to_mlx(x)) - 0.5).mean())
    losses = []
    for _ in range(3):
        loss = (model(x) - 0.5).square().mean()
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        mine, gradients = step()
        ours.update(module, gradients)
        np.testing.assert_allclose(mine.item(), loss.item(), rtol=1e-5)
        losses.append(loss.item())
    assert losses[0] - losses[-1] > 1e-4


def test_a_computed_weight_is_one_array_in_evaluation():
    model = nn.Sequential(orthogonal("householder"), nn.Tanh()).eval()
    made = torch2mlx.translate(model, (torch.randn(4, 5),))
    assert "nn.Linear(5, 5)" in made.source


@pytest.mark.parametrize("size", [0.0, 1e-3, 0.5, 4.0, 60.0])
def test_the_exponential_of_matrices(size):
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    x = size * torch.cat([x - x.mT, x.triu(1)])
    expected = torch.matrix_exp(x).numpy()
    with mx.stream(mx.cpu):
        found = algebra.matrix_exp(mx.array(x.numpy(), mx.float64))
    np.testing.assert_allclose(np.array(found), expected, 1e-9, 1e-9 * np.abs(expected).max())


def test_the_exponential_of_a_matrix_out_of_range_is_no_number():
    assert np.isnan(np.array(algebra.matrix_exp(mx.eye(2) * 1e6))).all()


@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (3, 1)])
def test_the_product_of_reflections(shape):
    x, tau = torch.randn(shape, dtype=torch.float64), torch.rand(*shape[:-2], shape[-1]).double()
    tau[..., -1] = 0
    expected = torch.linalg.householder_product(x, tau).numpy()
    with mx.stream(mx.cpu):
        given = (mx.array(v.numpy(), mx.float64) for v in (x, tau))
        found = np.array(algebra.householder_product(*given))
    np.testing.assert_allclose(found, expected, 1e-12, 1e-12)


@pytest.mark.parametrize("columns", [None, 2])
def test_gradients_of_solving_and_of_the_inverse(columns):
    a = torch.randn(3, 3) + 3 * torch.eye(3)
    b = torch.randn(3) if columns is None else torch.randn(3, columns)
    a.requires_grad_(), b.requires_grad_()
    torch.linalg.solve(a, b).square().sum().backward()
    loss = lambda a, b: mx.square(algebra.solve(a, b)).sum()
    given = [mx.array(v.detach().numpy()) for v in (a, b)]
    with mx.stream(mx.cpu):
        for found, wanted in zip(mx.grad(loss, (0, 1))(*given), (a, b), strict=True):
            np.testing.assert_allclose(np.array(found), wanted.grad.numpy(), 1e-4, 1e-5)
        found = mx.grad(lambda x: mx.square(algebra.inv(x)).sum())(given[0])
    a.grad = None
    torch.linalg.inv(a).square().sum().backward()
    np.testing.assert_allclose(np.array(found), a.grad.numpy(), 1e-4, 1e-5)
