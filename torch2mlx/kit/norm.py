"""Normalisation over any number of spatial dimensions, with running statistics."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn


class _Normalizer(nn.Module):
    """Affine and running statistics as torch keeps them. `_axes` are normalised together."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        if affine:
            self.weight = mx.ones((num_features,))
            self.bias = mx.zeros((num_features,))
        if track_running_stats:
            self.running_mean = mx.zeros((num_features,))
            self.running_var = mx.ones((num_features,))
            self.freeze(keys=["running_mean", "running_var"], recurse=False)
        self._eps, self._momentum, self._batches = eps, momentum, 0

    def unfreeze(self, *args, **kwargs) -> nn.Module:
        """Running statistics are never trained."""
        super().unfreeze(*args, **kwargs)
        return self.freeze(keys=["running_mean", "running_var"], recurse=False)

    def _axes(self, x: mx.array) -> tuple[int, ...]:
        raise NotImplementedError

    def _track(self, x: mx.array, axes: tuple[int, ...]) -> None:
        self._batches += 1
        step = 1 / self._batches if self._momentum is None else self._momentum
        mean, var = mx.mean(x, axis=axes), mx.var(x, axis=axes, ddof=1)
        if mean.ndim > 1:  # of every instance: torch averages them
            mean, var = mx.mean(mean, axis=0), mx.mean(var, axis=0)
        self.running_mean = (1 - step) * self.running_mean + step * mean
        self.running_var = (1 - step) * self.running_var + step * var

    def __call__(self, x: mx.array) -> mx.array:
        tracked = "running_mean" in self
        if tracked and not self.training:
            mean, var = self.running_mean, self.running_var
        else:
            axes = self._axes(x)
            mean = mx.mean(x, axis=axes, keepdims=True)
            var = mx.var(x, axis=axes, keepdims=True)
            if tracked:
                self._track(x, axes)
        y = (x - mean) * mx.rsqrt(var + self._eps)
        return self.weight * y + self.bias if "weight" in self else y


class BatchNorm(_Normalizer):
    """torch.nn.BatchNorm1d/2d/3d. x: (N, ..., C), any number of dimensions between."""

    def _axes(self, x: mx.array) -> tuple[int, ...]:
        return tuple(range(x.ndim - 1))


class InstanceNorm(_Normalizer):
    """torch.nn.InstanceNorm1d/2d/3d. x: (N, ..., C)."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def _axes(self, x: mx.array) -> tuple[int, ...]:
        return tuple(range(1, x.ndim - 1))
