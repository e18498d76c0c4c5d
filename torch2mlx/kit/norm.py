"""Normalisation as torch has it: any rank, running statistics, several dimensions at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import moments
from torch2mlx.kit.collectives import reduced, total
from torch2mlx.kit.processes import joined


def statistics(x: mx.array, axes: Sequence[int]) -> tuple[mx.array, mx.array]:
    """The mean and the biased variance over axes, which are kept with one item."""
    return moments.mean(x, axes, True), moments.var(x, axes, True)


def running(mean: mx.array, var: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """What running statistics move towards: the mean and the unbiased variance of each channel.

    mean, var: the `statistics` of `count` items each, (1 or N, 1, ..., C), both results (C,). Those
    of single samples are averaged, as torch does. The variance of one item is NaN.
    """
    mean, var = (mx.mean(v.reshape(-1, v.shape[-1]), axis=0) for v in (mean, var))
    return mean, var * (count / (count - 1) if count > 1 else math.nan)


def moved(old: mx.array, value: mx.array, momentum: float | mx.array) -> mx.array:
    """A running statistic, in its own dtype, after one more batch."""
    return ((1 - momentum) * old + momentum * value).astype(old.dtype)


#: torch's name of the number of batches that a layer's running statistics have seen.
COUNTED = "num_batches_tracked"


class Batches(mx.array):
    """A layer's number of batches as torch's buffer of one item: what is written to it in place is
    the layer's number from then on."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer._batches, mx.int64)
        self._layer = layer

    def __setitem__(self, place: Any, value: Any) -> None:
        super().__setitem__(place, value)
        found: Any = self.item()
        self._layer._batches = int(found)


def _in_place(name: str) -> Callable[[Batches, Any], Batches]:
    def changed(self: Batches, other: Any) -> Batches:
        self[...] = getattr(mx.array, name)(mx.array(self), other)
        return self

    return changed


for _name in ("add", "sub", "mul"):
    setattr(Batches, f"__i{_name}__", _in_place(f"__{_name}__"))


class _Normalizer(nn.Module):
    """Affine and running statistics as torch keeps them. `_axes` are normalised together."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        batches: int = 0,
    ) -> None:
        super().__init__()
        if affine:
            self.weight = mx.ones((num_features,))
            self.bias = mx.zeros((num_features,))
        if track_running_stats:
            self.running_mean = mx.zeros((num_features,))
            self.running_var = mx.ones((num_features,))
            self.freeze(keys=["running_mean", "running_var"], recurse=False)
        self._eps, self._momentum, self._batches = eps, momentum, batches

    def __setattr__(self, key: str, value: Any) -> None:
        if key == COUNTED:
            object.__setattr__(self, key, value)  # MLX would hold an array of this name
        else:
            super().__setattr__(key, value)

    @property
    def num_batches_tracked(self) -> Batches | None:
        """torch's count of the batches that running statistics have seen; None without these.

        Raises ValueError while a step is compiled, which would keep the number for ever.
        """
        if "running_mean" not in self:
            return None
        mx.eval(self.running_mean)  # which is what a trace does not allow
        return Batches(self)

    @num_batches_tracked.setter
    def num_batches_tracked(self, value: Any) -> None:
        self._batches = int(value)

    @property
    def counted(self) -> tuple[str, ...]:
        """Attributes that each call in training adds to, and that no result depends on."""
        return () if self._momentum is None else ("_batches",)

    def unfreeze(self, *args, **kwargs) -> nn.Module:
        """Running statistics are never trained."""
        super().unfreeze(*args, **kwargs)
        return self.freeze(keys=["running_mean", "running_var"], recurse=False)

    def _axes(self, x: mx.array) -> tuple[int, ...]:
        raise NotImplementedError

    def _measured(self, x: mx.array) -> tuple[mx.array, mx.array, int]:
        """Mean and variance of what is normalised together, and how many items that is."""
        mean, var = statistics(x, self._axes(x))
        return mean, var, x.size // max(mean.size, 1)

    def _step(self) -> float:
        """Counts a batch, and says by how much of it the running statistics move."""
        self._batches += 1
        return 1 / self._batches if self._momentum is None else self._momentum

    def _track(self, mean: mx.array, var: mx.array, count: int) -> None:
        found, step = running(mean, var, count), self._step()
        for name, value in zip(("running_mean", "running_var"), found, strict=True):
            self[name] = moved(self[name], value, step)

    def __call__(self, x: mx.array) -> mx.array:
        given, x = x.dtype, x.astype(mx.float32)  # as torch does for half formats
        tracked = "running_mean" in self
        if tracked and not self.training:
            mean, var = self.running_mean, self.running_var
        else:
            mean, var, count = self._measured(x)
            if tracked:
                self._track(mean, var, count)
        y = (x - mean) * mx.rsqrt(var + self._eps)
        y = self.weight * y + self.bias if "weight" in self else y
        return y.astype(given)


class BatchNorm(_Normalizer):
    """torch.nn.BatchNorm1d/2d/3d. x: (N, ..., C), any number of dimensions between.

    `synced`: statistics are those of the batches of all processes.
    """

    synced = False

    def _axes(self, x: mx.array) -> tuple[int, ...]:
        return tuple(range(x.ndim - 1))

    def _measured(self, x: mx.array) -> tuple[mx.array, mx.array, int]:
        if not self.synced or joined() is None:
            return super()._measured(x)
        axes = self._axes(x)
        found: Any = reduced(mx.array(x.size // x.shape[-1])).item()
        count = int(found)
        mean = total(moments.total(x, axes, True)) / count
        return mean, total(moments.total(mx.square(x - mean), axes, True)) / count, count


class SyncBatchNorm(BatchNorm):
    """torch.nn.SyncBatchNorm. x: (N, ..., C), of any number of items on each process."""

    synced = True


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

    def _step(self) -> float:
        return self._momentum or 0.0  # torch counts no batches here, and takes None for 0

    def _axes(self, x: mx.array) -> tuple[int, ...]:
        return tuple(range(1, x.ndim - 1))


class GroupNorm(nn.Module):
    """torch.nn.GroupNorm. x: (N, ..., C)."""

    _function: Callable[..., mx.array] = staticmethod(moments.group_norm)

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        self._groups, self._eps = num_groups, eps
        if affine:
            self.weight, self.bias = mx.ones((num_channels,)), mx.zeros((num_channels,))

    def __call__(self, x: mx.array) -> mx.array:
        weight, bias = (self.weight, self.bias) if "weight" in self else (None, None)
        return type(self)._function(x, self._groups, weight, bias, self._eps)


class LayerNorm(nn.Module):
    """torch.nn.LayerNorm over several last dimensions; weight and bias are flat."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self._shape, self._eps = tuple(shape), eps
        if elementwise_affine:
            self.weight = mx.ones((math.prod(shape),))
            if bias:
                self.bias = mx.zeros((math.prod(shape),))

    def __call__(self, x: mx.array) -> mx.array:
        flat = x.reshape(*x.shape[: x.ndim - len(self._shape)], -1)
        y = moments.layer_norm(flat, self.get("weight"), self.get("bias"), self._eps)
        return y.reshape(x.shape)


class RMSNorm(nn.Module):
    """torch.nn.RMSNorm over several last dimensions; eps None is that of the dtype."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self._shape, self._eps = tuple(shape), eps
        if elementwise_affine:
            self.weight = mx.ones((math.prod(shape),))

    def __call__(self, x: mx.array) -> mx.array:
        flat = x.reshape(*x.shape[: x.ndim - len(self._shape)], -1)
        # torch computes half formats in float32, and takes the eps of that
        wide = mx.float32 if x.dtype in (mx.float16, mx.bfloat16) else x.dtype
        eps = mx.finfo(wide).eps if self._eps is None else self._eps
        return mx.fast.rms_norm(flat, self.get("weight"), eps).reshape(x.shape)


def _channel_sums(x: mx.array, before: int, after: int) -> mx.array:
    """Sums of neighbouring channels: from `before` below to `after` above."""
    widths = [(0, 0)] * (x.ndim - 1) + [(before, after)]
    wide, channels = mx.pad(x, widths), x.shape[-1]
    total = wide[..., :channels]
    for i in range(1, before + after + 1):
        total = total + wide[..., i : i + channels]
    return total


def local_response_norm(
    x: mx.array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> mx.array:
    """torch's local_response_norm across the channels of (N, ..., C)."""
    total = _channel_sums(mx.square(x), size // 2, (size - 1) // 2)
    return x / mx.power(k + alpha * total / size, beta)


def cross_map_lrn(
    x: mx.array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> mx.array:
    """torch.nn.CrossMapLRN2d, which keeps the first channel in the sums of all later ones."""
    half = int((size - 1) / 2 + 1)
    square, channels = mx.square(x), x.shape[-1]
    total = _channel_sums(square, half - 1, half - 1)
    stays = (mx.arange(channels) >= half).astype(x.dtype)
    return x * mx.power(k + alpha / size * (total + stays * square[..., :1]), -beta)


def standardized(
    x: mx.array,
    mean: mx.array,
    variance: mx.array,
    weight: mx.array | None,
    bias: mx.array | None,
    eps: float,
) -> mx.array:
    """x by a mean and a variance, then scaled and moved, channel by channel."""
    y = (x - mean) * mx.rsqrt(variance + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _move(
    running_mean: mx.array | None,
    running_var: mx.array | None,
    found: tuple[mx.array, mx.array],
    momentum: float,
) -> None:
    """Moves those of two running statistics that are given, in place."""
    for held, value in zip((running_mean, running_var), found, strict=True):
        if held is not None:
            held[...] = moved(held, mx.stop_gradient(value), momentum)


def batch_norm(
    x: mx.array,
    running_mean: mx.array | None,
    running_var: mx.array | None,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> mx.array:
    """torch.nn.functional.batch_norm. x: (N, ..., C).

    In training, running statistics that are given are changed in place, as torch changes them.
    Raises ValueError for those that are missing.
    """
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("training=False needs running_mean and running_var")
        return standardized(x, running_mean, running_var, weight, bias, eps)
    mean, variance = statistics(x, tuple(range(x.ndim - 1)))
    _move(running_mean, running_var, running(mean, variance, x.size // mean.size), momentum)
    return standardized(x, mean, variance, weight, bias, eps)


def instance_norm(
    x: mx.array,
    running_mean: mx.array | None = None,
    running_var: mx.array | None = None,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> mx.array:
    """torch.nn.functional.instance_norm. x: (N, *spatial, C).

    With `use_input_stats`, running statistics that are given are changed in place, as torch changes
    them. Raises ValueError for those that are missing.
    """
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError("use_input_stats=False needs running_mean and running_var")
        return standardized(x, running_mean, running_var, weight, bias, eps)
    mean, variance = statistics(x, tuple(range(1, x.ndim - 1)))
    _move(running_mean, running_var, running(mean, variance, x.size // mean.size), momentum)
    return standardized(x, mean, variance, weight, bias, eps)
