"""Distributions: torch's densities, entropies, divergences, gradients; draws by their moments."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import torch

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

#: (class, options by name, values)
CASES = {
    "normal": ("Normal", {"loc": LOC, "scale": SCALE}, REALS),
    "uniform": ("Uniform", {"low": LOW, "high": HIGH}, LOC + DRAW.uniform(-2, 2, (6, 5))),
    "categorical probs": ("Categorical", {"probs": PROBS}, PLACES),
    "categorical logits": ("Categorical", {"logits": LOGITS * 5}, PLACES),
    "bernoulli probs": ("Bernoulli", {"probs": PROBS}, BITS),
    "bernoulli logits": ("Bernoulli", {"logits": LOGITS * 9}, BITS),
}


def both(name, **shift):
    kind, options, _ = CASES[name]
    moved = {k: v * shift.get("by", 1) for k, v in options.items()}
    tensors = {k: torch.from_numpy(np.float32(v)).requires_grad_() for k, v in moved.items()}
    arrays = {k: mx.array(np.float32(v)) for k, v in moved.items()}
    return getattr(theirs, kind), tensors, getattr(ours, kind), arrays


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
