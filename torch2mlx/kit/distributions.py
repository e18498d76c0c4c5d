"""torch.distributions for what training loops use of it: sampling, log-probabilities, entropy.

Formulas: the documentation of torch.distributions (2.13). MLX draws other numbers from a seed.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

Shape = tuple[int, ...]


def _array(value: Any) -> mx.array:
    return value if isinstance(value, mx.array) else mx.array(value, mx.float32)


def _inside(probs: mx.array) -> mx.array:
    """Probabilities as far from 0 and 1 as torch keeps them: the eps of float32."""
    tiny = 1.1920928955078125e-07
    return mx.clip(probs, tiny, 1 - tiny)


def _check_one(probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise ValueError("either probs or logits must be given, not both")


def _softplus(x: mx.array) -> mx.array:
    return mx.logaddexp(x, mx.array(0.0))


class Distribution:
    """`batch_shape` is that of the parameters, `event_shape` that of one draw of one of them."""

    def __init__(self, batch_shape: Any, event_shape: Any = ()) -> None:
        self.batch_shape, self.event_shape = tuple(batch_shape), tuple(event_shape)

    def _extended(self, sample_shape: Any) -> Shape:
        return (*tuple(sample_shape), *self.batch_shape, *self.event_shape)

    def rsample(self, sample_shape: Any = ()) -> mx.array:
        """A draw through which the parameters get a gradient."""
        raise NotImplementedError(f"{type(self).__name__} has no rsample: use log_prob")

    def sample(self, sample_shape: Any = ()) -> mx.array:
        """A draw without a gradient: (*sample_shape, *batch_shape, *event_shape)."""
        return mx.stop_gradient(self.rsample(sample_shape))

    def log_prob(self, value: mx.array) -> mx.array:
        """The logarithm of the density, or the probability, of values."""
        raise NotImplementedError

    def entropy(self) -> mx.array:
        """In nats, for each of the batch."""
        raise NotImplementedError

    @property
    def variance(self) -> mx.array:
        """For each of the batch."""
        raise NotImplementedError

    @property
    def stddev(self) -> mx.array:
        """The root of the variance."""
        return mx.sqrt(self.variance)


class Normal(Distribution):
    """torch.distributions.Normal."""

    def __init__(self, loc: Any, scale: Any, validate_args: Any = None) -> None:
        self.loc, self.scale = mx.broadcast_arrays(_array(loc), _array(scale))
        super().__init__(self.loc.shape)

    @property
    def mean(self) -> mx.array:
        """loc."""
        return self.loc

    @property
    def variance(self) -> mx.array:
        """scale squared."""
        return mx.square(self.scale)

    @property
    def stddev(self) -> mx.array:
        """scale."""
        return self.scale

    def rsample(self, sample_shape: Any = ()) -> mx.array:
        return self.loc + self.scale * mx.random.normal(self._extended(sample_shape))

    def log_prob(self, value: mx.array) -> mx.array:
        gap = mx.square(value - self.loc) / (2 * self.variance)
        return -gap - mx.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> mx.array:
        return 0.5 + 0.5 * math.log(2 * math.pi) + mx.log(self.scale)

    def cdf(self, value: mx.array) -> mx.array:
        """The probability of less than a value."""
        return 0.5 * (1 + mx.erf((value - self.loc) / (self.scale * math.sqrt(2))))


class Uniform(Distribution):
    """torch.distributions.Uniform."""

    def __init__(self, low: Any, high: Any, validate_args: Any = None) -> None:
        self.low, self.high = mx.broadcast_arrays(_array(low), _array(high))
        super().__init__(self.low.shape)

    @property
    def mean(self) -> mx.array:
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def variance(self) -> mx.array:
        """A twelfth of the width squared."""
        return mx.square(self.high - self.low) / 12

    def rsample(self, sample_shape: Any = ()) -> mx.array:
        draws = mx.random.uniform(shape=self._extended(sample_shape))
        return self.low + draws * (self.high - self.low)

    def log_prob(self, value: mx.array) -> mx.array:
        inside = (value >= self.low) & (value < self.high)
        return mx.where(inside, -mx.log(self.high - self.low), -mx.inf)

    def entropy(self) -> mx.array:
        return mx.log(self.high - self.low)


class Categorical(Distribution):
    """torch.distributions.Categorical over the last axis, from `probs` or `logits`; draws are
    int64."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: Any = None) -> None:
        _check_one(probs, logits)
        if probs is not None:
            self.probs = probs / mx.sum(probs, axis=-1, keepdims=True)
            self.logits = mx.log(_inside(self.probs))
        else:
            self.logits = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
            self.probs = mx.softmax(self.logits, axis=-1)
        super().__init__(self.logits.shape[:-1])

    def sample(self, sample_shape: Any = ()) -> mx.array:
        shape = self._extended(sample_shape)
        drawn = mx.random.categorical(mx.broadcast_to(self.logits, (*shape, self.logits.shape[-1])))
        return mx.stop_gradient(drawn.astype(mx.int64))

    def log_prob(self, value: mx.array) -> mx.array:
        shape = mx.broadcast_shapes(value.shape, self.batch_shape)
        logits = mx.broadcast_to(self.logits, (*shape, self.logits.shape[-1]))
        places = mx.broadcast_to(value, shape).astype(mx.int32)[..., None]
        return mx.take_along_axis(logits, mx.stop_gradient(places), axis=-1)[..., 0]

    def entropy(self) -> mx.array:
        lowest = mx.array(mx.finfo(self.logits.dtype).min, self.logits.dtype)
        return -mx.sum(mx.maximum(self.logits, lowest) * self.probs, axis=-1)


class Bernoulli(Distribution):
    """torch.distributions.Bernoulli, from `probs` or `logits`; draws are 0.0 and 1.0."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: Any = None) -> None:
        _check_one(probs, logits)
        if probs is not None:
            self.probs = _array(probs)
            inside = _inside(self.probs)
            self.logits = mx.log(inside) - mx.log1p(-inside)
        else:
            self.logits = _array(logits)
            self.probs = mx.sigmoid(self.logits)
        super().__init__(self.logits.shape)

    @property
    def mean(self) -> mx.array:
        """probs."""
        return self.probs

    @property
    def variance(self) -> mx.array:
        """probs * (1 - probs)."""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> mx.array:
        drawn = mx.random.bernoulli(self.probs, self._extended(sample_shape))
        return mx.stop_gradient(drawn.astype(self.probs.dtype))

    def log_prob(self, value: mx.array) -> mx.array:
        return value * self.logits - _softplus(self.logits)

    def entropy(self) -> mx.array:
        return _softplus(self.logits) - self.probs * self.logits


class Independent(Distribution):
    """torch.distributions.Independent: the last axes of a batch are one event."""

    def __init__(self, base_distribution: Any, reinterpreted_batch_ndims: int) -> None:
        self.base_dist, self._last = base_distribution, reinterpreted_batch_ndims
        shape = base_distribution.batch_shape
        at = len(shape) - reinterpreted_batch_ndims
        super().__init__(shape[:at], (*shape[at:], *base_distribution.event_shape))

    @property
    def mean(self) -> mx.array:
        """That of the base."""
        return self.base_dist.mean

    @property
    def variance(self) -> mx.array:
        """That of the base."""
        return self.base_dist.variance

    def _summed(self, x: mx.array) -> mx.array:
        return mx.sum(x, axis=tuple(range(-self._last, 0))) if self._last else x

    def rsample(self, sample_shape: Any = ()) -> mx.array:
        return self.base_dist.rsample(sample_shape)

    def sample(self, sample_shape: Any = ()) -> mx.array:
        return self.base_dist.sample(sample_shape)

    def log_prob(self, value: mx.array) -> mx.array:
        return self._summed(self.base_dist.log_prob(value))

    def entropy(self) -> mx.array:
        return self._summed(self.base_dist.entropy())


def kl_divergence(p: Distribution, q: Distribution) -> mx.array:
    """torch.distributions.kl_divergence of two of a kind. Raises NotImplementedError for others."""
    if isinstance(p, Independent) and isinstance(q, Independent) and p._last == q._last:
        return p._summed(kl_divergence(p.base_dist, q.base_dist))
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = mx.square(p.scale / q.scale)
        return 0.5 * (ratio + mx.square((p.loc - q.loc) / q.scale) - 1 - mx.log(ratio))
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        terms = p.probs * (p.logits - q.logits)
        return mx.sum(mx.where(p.probs == 0, 0, terms), axis=-1)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        other = _softplus(q.logits) - _softplus(p.logits)
        return p.probs * (p.logits - q.logits) + other
    raise NotImplementedError(f"no formula for {type(p).__name__} and {type(q).__name__}")


__all__ = [
    *("Bernoulli", "Categorical", "Distribution", "Independent", "Normal", "Uniform"),
    "kl_divergence",
]
