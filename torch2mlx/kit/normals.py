"""torch.distributions.MultivariateNormal."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

from torch2mlx.kit import algebra
from torch2mlx.kit.distributions import Distribution


class MultivariateNormal(Distribution):
    """torch.distributions.MultivariateNormal, from one of its three matrices."""

    def __init__(
        self,
        loc: mx.array,
        covariance_matrix: mx.array | None = None,
        precision_matrix: mx.array | None = None,
        scale_tril: mx.array | None = None,
        validate_args: Any = None,
    ) -> None:
        given = [m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None]
        if len(given) != 1:
            raise ValueError(
                "exactly one of covariance_matrix, precision_matrix and scale_tril must be given"
            )
        if scale_tril is None:
            covariance = given[0] if precision_matrix is None else algebra.inv(precision_matrix)
            scale_tril = algebra.cholesky(covariance)
        size = loc.shape[-1]
        batch = mx.broadcast_shapes(scale_tril.shape[:-2], loc.shape[:-1])
        self.loc = mx.broadcast_to(loc, (*batch, size))
        self.scale_tril = mx.broadcast_to(scale_tril, (*batch, size, size))
        super().__init__(batch, (size,))

    @property
    def mean(self) -> mx.array:
        """loc."""
        return self.loc

    @property
    def covariance_matrix(self) -> mx.array:
        """scale_tril times itself, turned."""
        return self.scale_tril @ self.scale_tril.swapaxes(-1, -2)

    @property
    def precision_matrix(self) -> mx.array:
        """The inverse of the covariance."""
        return algebra.inv(self.covariance_matrix)

    @property
    def variance(self) -> mx.array:
        """The diagonal of the covariance."""
        return mx.sum(mx.square(self.scale_tril), axis=-1)

    def rsample(self, sample_shape: Any = ()) -> mx.array:
        draws = mx.random.normal(self._extended(sample_shape))
        return self.loc + (self.scale_tril @ draws[..., None])[..., 0]

    def _half_log_det(self) -> mx.array:
        diagonal = mx.diagonal(self.scale_tril, axis1=-2, axis2=-1)
        return mx.sum(mx.log(diagonal), axis=-1)

    def log_prob(self, value: mx.array) -> mx.array:
        gap = value - self.loc
        factor = mx.broadcast_to(mx.tril(self.scale_tril), (*gap.shape, gap.shape[-1]))
        scaled = algebra.solve(factor, gap[..., None])[..., 0]
        size = self.event_shape[0]
        squares = mx.sum(mx.square(scaled), axis=-1)
        return -0.5 * (size * math.log(2 * math.pi) + squares) - self._half_log_det()

    def entropy(self) -> mx.array:
        size = self.event_shape[0]
        return 0.5 * size * (1 + math.log(2 * math.pi)) + self._half_log_det()


__all__ = ["MultivariateNormal"]
