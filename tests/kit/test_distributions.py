"""Distributions: torch's densities, entropies, divergences, gradients; draws by their moments."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import torch

from torch2mlx.kit import algebra, concentrations, normals
from torch2mlx.kit import distributions as ours

theirs = torch.distributions
DRAW = np.random.default_rng(0)
LOGITS = DRAW.standard_normal((4, 5)).astype(np.float32)
PROBS = DRAW.random((4, 5)).astype(np.float32) * 0.9 + 0.05
LOC, SCALE = DRAW.standard_normal(5).astype(np.float32), PROBS[0] + 0.2
PLACES = DRAW.integers(0, 5, (3, 4))
BITS = DRAW.integers(0, 2, (3, 4, 5)).astype(np.float32)
REALS = DRAW.standard_normal((4, 5)).astype(np.float32)
LOW, HIGH = LOC - 1, LOC + SCALE
COUNTS = np.abs(DRAW.standard_normal((2, 5)).astype(np.float32)) * 2 + 0.3
SHARES = DRAW.dirichlet(np.ones(5), 4).astype(np.float32)
FACTORS = np.tril(DRAW.standard_normal((2, 3, 3)) * 0.3 + np.eye(3)).astype(np.float32)
SPREAD = FACTORS @ FACTORS.swapaxes(-1, -2)
MIDDLE, POINTS = REALS[:2, :3], DRAW.standard_normal((4, 2, 3)).astype(np.float32)

#: (class, options by name, values)
CASES = {
    "normal": ("Normal", {"loc": LOC, "scale": SCALE}, REALS),
    "uniform": ("Uniform", {"low": LOW, "high": HIGH}, LOC + DRAW.uniform(-2, 2, (6, 5))),
    "categorical probs": ("Categorical", {"probs": PROBS}, PLACES),
    "categorical logits": ("Categorical", {"logits": LOGITS * 5}, PLACES),
    "bernoulli probs": ("Bernoulli", {"probs": PROBS}, BITS),
    "bernoulli logits": ("Bernoulli", {"logits": LOGITS * 9}, BITS),
    "gamma": ("Gamma", {"concentration": COUNTS[0], "rate": SCALE}, np.abs(REALS)),
    "exponential": ("Exponential", {"rate": SCALE}, np.abs(REALS)),
    "beta": ("Beta", {"concentration1": COUNTS[0], "concentration0": COUNTS[1]}, PROBS),
    "dirichlet": ("Dirichlet", {"concentration": COUNTS}, SHARES[:, None]),
    "normal of a factor": ("MultivariateNormal", {"loc": MIDDLE, "scale_tril": FACTORS}, POINTS),
    "normal of a covariance": (
        *("MultivariateNormal", {"loc": MIDDLE, "covariance_matrix": SPREAD}, POINTS),
    ),
    "normal of a precision": (
        *("MultivariateNormal", {"loc": MIDDLE, "precision_matrix": SPREAD[0]}, POINTS),
    ),
}


def both(name, **shift):
    kind, options, _ = CASES[name]
    moved = {k: v * shift.get("by", 1) for k, v in options.items()}
    tensors = {k: torch.from_numpy(np.float32(v)).requires_grad_() for k, v in moved.items()}
    arrays = {k: mx.array(np.float32(v)) for k, v in moved.items()}
    held = next(m for m in (ours, concentrations, normals) if kind in m.__all__)
    return getattr(theirs, kind), tensors, getattr(held, kind), arrays


@pytest.mark.parametrize("name", CASES)
def test_densities_and_entropies_with_gradients(name):
    make, tensors, build, arrays = both(name)
    values = CASES[name][2]
    value = torch.from_numpy(np.asarray(values, values.dtype if values.dtype != float else "f4"))
    expected = make(**tensors, validate_args=False)
    found = build(**arrays)
    given = mx.array(value.numpy())
    np.testing.assert_allclose(
        found.log_prob(given), expected.log_prob(value).detach(), rtol=1e-5, atol=2e-6
    )
    np.testing.assert_allclose(found.entropy(), expected.entropy().detach(), rtol=1e-5, atol=2e-6)
    assert found.batch_shape == tuple(expected.batch_shape)
    if name == "uniform":
        return  # infinite outside
    (expected.log_prob(value).sum() + expected.entropy().sum()).backward()

    def total(held):
        made = build(**held)
        return made.log_prob(given).sum() + made.entropy().sum()

    for key, gradient in mx.grad(total)(arrays).items():
        np.testing.assert_allclose(gradient, tensors[key].grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["normal", "categorical probs", "categorical logits", "bernoulli probs"]
)
def test_divergences(name):
    make, tensors, build, arrays = both(name)
    _, others, _, second = both(name, by=0.7)
    expected = theirs.kl_divergence(make(**tensors), make(**others)).detach()
    found = ours.kl_divergence(build(**arrays), build(**second))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(NotImplementedError):
        ours.kl_divergence(build(**arrays), ours.Uniform(0.0, 1.0))


def test_independent_axes_are_one_event():
    expected = theirs.Independent(theirs.Normal(torch.from_numpy(LOGITS), 2.0), 1)
    found = ours.Independent(ours.Normal(mx.array(LOGITS), 2.0), 1)
    assert (found.batch_shape, found.event_shape) == ((4,), (5,))
    value = torch.from_numpy(REALS)
    np.testing.assert_allclose(found.log_prob(mx.array(REALS)), expected.log_prob(value), rtol=1e-5)
    np.testing.assert_allclose(found.entropy(), expected.entropy(), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_moments(name):
    make, tensors, build, arrays = both(name)
    mx.random.seed(0)
    found, expected = build(**arrays), make(**tensors)
    draws = found.sample((20000,))
    assert draws.shape == tuple(expected.sample((20000,)).shape)
    assert str(draws.dtype).split(".")[-1] == str(expected.sample().dtype).split(".")[-1]
    if "categorical" in name:
        shares = mx.mean((draws[..., None] == mx.arange(5)).astype(mx.float32), axis=0)
        np.testing.assert_allclose(shares, expected.probs.detach(), atol=0.02)
    else:
        np.testing.assert_allclose(mx.mean(draws, axis=0), expected.mean.detach(), atol=0.05)
        np.testing.assert_allclose(mx.std(draws, axis=0), expected.stddev.detach(), atol=0.05)


def test_only_reparametrised_draws_have_gradients():
    mx.random.seed(0)
    slope = mx.grad(lambda m: ours.Normal(m, 1.0).rsample((7,)).sum())(mx.array(0.5))
    assert slope.item() == 7
    assert mx.grad(lambda m: ours.Normal(m, 1.0).sample((7,)).sum())(mx.array(0.5)).item() == 0
    with pytest.raises(NotImplementedError):
        ours.Categorical(mx.array([0.5, 0.5])).rsample()
    with pytest.raises(ValueError, match="probs or logits"):
        ours.Bernoulli()


def test_one_matrix_of_a_normal_is_given():
    with pytest.raises(ValueError, match="exactly one of covariance_matrix, precision_matrix"):
        normals.MultivariateNormal(mx.zeros((2,)))


def test_draws_of_a_multivariate_normal_have_its_covariance():
    made = normals.MultivariateNormal(mx.array(MIDDLE), covariance_matrix=mx.array(SPREAD))
    mx.random.seed(0)
    draws = np.array(made.rsample((40000,))) - MIDDLE
    np.testing.assert_allclose(np.einsum("nbi,nbj->bij", draws, draws) / 40000, SPREAD, atol=0.05)
    np.testing.assert_allclose(made.precision_matrix, np.linalg.inv(SPREAD), rtol=1e-3, atol=1e-3)


def test_draws_of_small_concentrations_are_positive_and_have_no_gradient():
    mx.random.seed(0)
    small = concentrations.Gamma(mx.array([1e-3, 0.05, 900.0]), 1.0)
    draws = np.array(small.sample((5000,)))
    assert (draws > 0).all()
    np.testing.assert_allclose(draws.mean(0), [1e-3, 0.05, 900.0], rtol=0.3)
    with pytest.raises(NotImplementedError):
        concentrations.Beta(1.0, 2.0).rsample()


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4)])
def test_factors_and_determinants_have_torchs_gradients(shape):
    square = DRAW.standard_normal(shape).astype(np.float32)
    spread = square @ square.swapaxes(-1, -2) + np.eye(shape[-1], dtype=np.float32)
    upper = {"upper": True}
    for name, given, more in (
        *(("det", square, {}), ("logdet", spread, {})),
        *(("cholesky", spread, {}), ("cholesky", spread, upper)),
    ):
        tensor = torch.from_numpy(given).requires_grad_()
        function = torch.linalg.cholesky if name == "cholesky" else getattr(torch, name)
        expected = function(tensor, **more)
        weights = DRAW.standard_normal(expected.shape).astype(np.float32)
        (expected * torch.from_numpy(weights)).sum().backward()

        def total(x, name=name, more=more, weights=weights):
            return (getattr(algebra, name)(x, **more) * mx.array(weights)).sum()

        gradient = mx.grad(total)(mx.array(given))
        np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-3, atol=1e-5)
