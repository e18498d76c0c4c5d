"""torch's Gamma and Exponential of positive numbers, Beta and Dirichlet of shares of one.

Draws are made of normal and uniform numbers by the method of Marsaglia and Tsang (2000), "A simple
method for generating gamma variables"; they have no gradient.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from torch2mlx.kit.distributions import Distribution, _array
from torch2mlx.kit.gamma import digamma, lgamma

#: Each round accepts at least 95 of 100: beyond these rounds less than one draw in 10**15 is left.
_ROUNDS = 12


def _gammas(concentration: mx.array) -> mx.array:
    """A draw of Gamma(concentration, 1) for each item."""
    small = concentration < 1
    d = mx.where(small, concentration + 1, concentration) - 1 / 3
    found, open_ = d, mx.ones(d.shape, mx.bool_)
    for _ in range(_ROUNDS):
        x, u = mx.random.normal(d.shape), 1 - mx.random.uniform(shape=d.shape)
        v = mx.power(1 + x / mx.sqrt(9 * d), 3)
        safe = mx.maximum(v, 1e-30)
        taken = (v > 0) & (mx.log(u) < 0.5 * mx.square(x) + d * (1 - safe + mx.log(safe)))
        found = mx.where(open_ & taken, d * safe, found)
        open_ = open_ & ~taken
    u = 1 - mx.random.uniform(shape=d.shape)
    smaller = mx.exp(mx.log(found) + mx.log(u) / mx.where(small, concentration, 1))
    tiny = 1.1754944e-38  # as torch keeps them from zero
    return mx.stop_gradient(mx.maximum(mx.where(small, smaller, found), tiny))


class Gamma(Distribution):
    """torch.distributions.Gamma."""

    def __init__(self, concentration: Any, rate: Any, validate_args: Any = None) -> None:
        both = mx.broadcast_arrays(_array(concentration), _array(rate))
        self.concentration, self.rate = both
        super().__init__(self.rate.shape)

    @property
    def mean(self) -> mx.array:
        """concentration / rate."""
        return self.concentration / self.rate

    @property
    def variance(self) -> mx.array:
        """concentration / rate squared."""
        return self.concentration / mx.square(self.rate)

    def sample(self, sample_shape: Any = ()) -> mx.array:
        drawn = _gammas(mx.broadcast_to(self.concentration, self._extended(sample_shape)))
        return mx.stop_gradient(drawn / self.rate)

    def log_prob(self, value: mx.array) -> mx.array:
        a, rate = self.concentration, self.rate
        return a * mx.log(rate) + (a - 1) * mx.log(value) - rate * value - lgamma(a)

    def entropy(self) -> mx.array:
        a = self.concentration
        return a - mx.log(self.rate) + lgamma(a) + (1 - a) * digamma(a)


class Exponential(Distribution):
    """torch.distributions.Exponential."""

    def __init__(self, rate: Any, validate_args: Any = None) -> None:
        self.rate = _array(rate)
        super().__init__(self.rate.shape)

    @property
    def mean(self) -> mx.array:
        """1 / rate."""
        return 1 / self.rate

    @property
    def variance(self) -> mx.array:
        """1 / rate squared."""
        return 1 / mx.square(self.rate)

    def rsample(self, sample_shape: Any = ()) -> mx.array:
        draws = mx.random.uniform(shape=self._extended(sample_shape))
        return -mx.log1p(-draws) / self.rate

    def log_prob(self, value: mx.array) -> mx.array:
        return mx.log(self.rate) - self.rate * value

    def entropy(self) -> mx.array:
        return 1 - mx.log(self.rate)


class Dirichlet(Distribution):
    """torch.distributions.Dirichlet over the last axis."""

    def __init__(self, concentration: mx.array, validate_args: Any = None) -> None:
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:])

    @property
    def mean(self) -> mx.array:
        """The shares of the concentrations."""
        return self.concentration / mx.sum(self.concentration, axis=-1, keepdims=True)

    @property
    def variance(self) -> mx.array:
        """Of each share."""
        total = mx.sum(self.concentration, axis=-1, keepdims=True)
        return self.mean * (1 - self.mean) / (total + 1)

    def sample(self, sample_shape: Any = ()) -> mx.array:
        drawn = _gammas(mx.broadcast_to(self.concentration, self._extended(sample_shape)))
        return drawn / mx.sum(drawn, axis=-1, keepdims=True)

    def log_prob(self, value: mx.array) -> mx.array:
        a = self.concentration
        # xlogy: a concentration of one gives a density at zero
        terms = mx.where(a == 1, 0, (a - 1) * mx.log(mx.where(a == 1, 1, value)))
        return mx.sum(terms, axis=-1) + lgamma(mx.sum(a, axis=-1)) - mx.sum(lgamma(a), axis=-1)

    def entropy(self) -> mx.array:
        a, count = self.concentration, self.concentration.shape[-1]
        total = mx.sum(a, axis=-1)
        spread = mx.sum(lgamma(a), axis=-1) - lgamma(total) - (count - total) * digamma(total)
        return spread - mx.sum((a - 1) * digamma(a), axis=-1)


class Beta(Distribution):
    """torch.distributions.Beta."""

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: Any = None) -> None:
        both = mx.broadcast_arrays(_array(concentration1), _array(concentration0))
        self.concentration1, self.concentration0 = both
        self._shares = Dirichlet(mx.stack([*both], axis=-1))
        super().__init__(self.concentration1.shape)

    @property
    def mean(self) -> mx.array:
        """The share of concentration1."""
        return self._shares.mean[..., 0]

    @property
    def variance(self) -> mx.array:
        """For each of the batch."""
        return self._shares.variance[..., 0]

    def sample(self, sample_shape: Any = ()) -> mx.array:
        return self._shares.sample(sample_shape)[..., 0]

    def log_prob(self, value: mx.array) -> mx.array:
        return self._shares.log_prob(mx.stack([value, 1 - value], axis=-1))

    def entropy(self) -> mx.array:
        return self._shares.entropy()


__all__ = ["Beta", "Dirichlet", "Exponential", "Gamma"]
