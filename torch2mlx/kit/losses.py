"""torch's losses: reductions, class weights, ignored classes, smoothing, with torch's defaults.

Classes are axis 1 (axis 0 of a single example), as in torch.
"""

from __future__ import annotations

import math

import mlx.core as mx

from torch2mlx.kit import kinks
from torch2mlx.kit.activations import log_softmax, logsigmoid
from torch2mlx.kit.distance import pairwise_distance
from torch2mlx.kit.elementwise import xlogy
from torch2mlx.kit.precision import in_float32
from torch2mlx.kit.stubs import custom_function


def reduced(loss: mx.array, reduction: str | int) -> mx.array:
    """The mean, the sum, or all items; 0, 1 and 2 are torch's numbers for none, mean and sum."""
    if isinstance(reduction, int) and 0 <= reduction < 3:
        reduction = ("none", "mean", "sum")[reduction]
    if reduction == "none":
        return loss
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r}: choose 'none', 'mean' or 'sum'")
    return mx.mean(loss) if reduction == "mean" else mx.sum(loss)


@in_float32
def l1_loss(x, target, reduction: str = "mean"):
    """|x - target|."""
    return reduced(mx.abs(x - target), reduction)


@in_float32
def mse_loss(x, target, reduction: str = "mean"):
    """(x - target) squared."""
    return reduced(mx.square(x - target), reduction)


@in_float32
def huber_loss(x, target, reduction: str = "mean", delta: float = 1.0):
    """Quadratic below delta, linear above."""
    size = mx.abs(x - target)
    return reduced(
        mx.where(size < delta, 0.5 * size * size, delta * (size - 0.5 * delta)), reduction
    )


@in_float32
def smooth_l1_loss(x, target, reduction: str = "mean", beta: float = 1.0):
    """huber_loss over beta; l1_loss for beta 0."""
    if beta == 0:
        return l1_loss(x, target, reduction)
    size = mx.abs(x - target)
    return reduced(mx.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta), reduction)


@in_float32
def binary_cross_entropy(x, target, weight=None, reduction: str = "mean"):
    """-log of the probability of what was the case; logs are at least -100, as in torch."""

    @custom_function
    def cost(x, target):
        log = lambda p: mx.maximum(mx.log(p), -100)  # noqa: E731
        return -(target * log(x) + (1 - target) * log(1 - x))

    @cost.vjp
    def cost_vjp(primals, cotangent, output):
        x, target = primals
        slope = (x - target) / mx.maximum(x * (1 - x), 1e-12)  # torch's, where the log is cut too
        return cotangent * slope, cotangent * (mx.log(1 - x) - mx.log(x))

    loss = cost(*mx.broadcast_arrays(x, target))
    return reduced(loss if weight is None else loss * weight, reduction)


@in_float32
def binary_cross_entropy_with_logits(
    x, target, weight=None, reduction: str = "mean", pos_weight=None
):
    """binary_cross_entropy of sigmoid(x), without overflow; `pos_weight` scales positives."""
    negative = -logsigmoid(x)  # log(1 + exp(-x))
    scale = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
    loss = (1 - target) * x + scale * negative
    return reduced(loss if weight is None else loss * weight, reduction)


def _class_axis(x) -> int:
    return 0 if x.ndim == 1 else 1


def _mean_of_kept(loss, weights, reduction: str):
    if reduction == "mean":  # of nothing: NaN, whose gradient is 0 in torch
        total = mx.sum(weights)
        nothing = total == 0
        return mx.where(nothing, mx.nan, mx.sum(loss) / mx.where(nothing, 1, total))
    return reduced(loss, reduction)


@in_float32
def nll_loss(x, target, weight=None, ignore_index: int = -100, reduction: str = "mean"):
    """-x of the target class, times its weight. x: log-probabilities (N, C, ...)."""
    axis = _class_axis(x)
    kept = target != ignore_index
    safe = mx.where(kept, target, 0)
    found = mx.take_along_axis(x, mx.expand_dims(safe, axis), axis).squeeze(axis)
    weights = (mx.ones(found.shape, x.dtype) if weight is None else weight[safe]) * kept
    return _mean_of_kept(-found * weights, weights, reduction)


def _by_class(weight, ndim: int):
    return weight if ndim == 1 else weight.reshape(1, -1, *(1,) * (ndim - 2))


def _soft_cross_entropy(logs, target, weight, reduction: str, smoothing: float):
    axis, classes = _class_axis(logs), logs.shape[_class_axis(logs)]
    target = target * (1 - smoothing) + smoothing / classes
    scaled = logs * target
    if weight is not None:
        scaled = scaled * _by_class(weight, logs.ndim)
    loss = -mx.sum(scaled, axis=axis)
    return mx.sum(loss) / max(loss.size, 1) if reduction == "mean" else reduced(loss, reduction)


@in_float32
def cross_entropy(
    x,
    target,
    weight=None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
):
    """torch's cross_entropy of logits (N, C, ...). target: classes (N, ...) or probabilities."""
    axis = _class_axis(x)
    logs = log_softmax(x, axis)
    if mx.issubdtype(target.dtype, mx.floating):
        return _soft_cross_entropy(logs, target, weight, reduction, label_smoothing)
    hard = nll_loss(logs, target, weight, ignore_index, "none")
    kept = target != ignore_index
    safe = mx.where(kept, target, 0)
    weights = (mx.ones(hard.shape, x.dtype) if weight is None else weight[safe]) * kept
    if label_smoothing:
        spread = logs if weight is None else logs * _by_class(weight, x.ndim)
        even = -mx.sum(spread, axis=axis) * kept
        hard = (1 - label_smoothing) * hard + label_smoothing / x.shape[axis] * even
    return _mean_of_kept(hard, weights, reduction)


@in_float32
def kl_div(x, target, reduction: str = "mean", log_target: bool = False):
    """target * (log target - x); x: log-probabilities. "batchmean" divides by the batch alone."""
    loss = mx.exp(target) * (target - x) if log_target else xlogy(target, target) - target * x
    if reduction == "batchmean":
        return mx.sum(loss) / (x.shape[0] if x.ndim else 1)
    return reduced(loss, reduction)


@in_float32
def poisson_nll_loss(
    x, target, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction="mean"
):
    """Negative log-likelihood of a Poisson; `full` adds Stirling's term for targets above 1."""
    loss = mx.exp(x) - target * x if log_input else x - target * mx.log(x + eps)
    if full:
        safe = mx.where(target > 1, target, 1)
        stirling = safe * mx.log(safe) - safe + 0.5 * mx.log(2 * math.pi * safe)
        loss = loss + mx.where(target > 1, stirling, 0)
    return reduced(loss, reduction)


@in_float32
def gaussian_nll_loss(
    x, target, var, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
):
    """Negative log-likelihood of a Gaussian; the variance is at least eps."""
    var = mx.array(var, x.dtype) if isinstance(var, float) else _grown(var, x)
    var = mx.broadcast_to(var, x.shape)
    floor = var + mx.stop_gradient(mx.maximum(var, eps) - var)  # torch clamps without gradient
    loss = 0.5 * (mx.log(floor) + mx.square(x - target) / floor)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced(loss, reduction)


def _grown(var, x):
    return var[..., None] if var.ndim == x.ndim - 1 else var


@in_float32
def hinge_embedding_loss(x, target, margin: float = 1.0, reduction: str = "mean"):
    """x where the target is 1, max(0, margin - x) where it is -1."""
    zero = mx.zeros_like(x)
    apart = mx.where(target != 1, mx.maximum(zero, margin - x), zero)
    return reduced(apart + mx.where(target != -1, x, zero), reduction)


@in_float32
def soft_margin_loss(x, target, reduction: str = "mean"):
    """log(1 + exp(-target * x))."""
    return reduced(-logsigmoid(target * x), reduction)


@in_float32
def margin_ranking_loss(a, b, target, margin: float = 0.0, reduction: str = "mean"):
    """max(0, -target * (a - b) + margin)."""
    return reduced(mx.maximum(0, -target * (a - b) + margin), reduction)


@in_float32
def cosine_embedding_loss(a, b, target, margin: float = 0.0, reduction: str = "mean"):
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1; torch's own eps."""
    axis = a.ndim - 1
    size = lambda x: mx.sum(x * x, axis=axis) + 1e-12  # noqa: E731
    cos = mx.sum(a * b, axis=axis) / mx.sqrt(size(a) * size(b))
    zero = mx.zeros_like(cos)
    same = mx.where(target == 1, 1 - cos, zero)
    return reduced(same + mx.where(target == -1, mx.maximum(0, cos - margin), zero), reduction)


@in_float32
def triplet_margin_loss(
    anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean"
):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)."""
    distance = lambda a, b: pairwise_distance(a, b, p, eps)  # noqa: E731
    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance, margin, swap, reduction
    )


@in_float32
def triplet_margin_with_distance_loss(
    anchor, positive, negative, distance_function=None, margin=1.0, swap=False, reduction="mean"
):
    """The same with any distance; `swap` takes the nearer of anchor and positive."""
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = kinks.minimum(far, distance(positive, negative))
    return reduced(mx.maximum(0, near - far + margin), reduction)


@in_float32
def multi_margin_loss(x, target, p: int = 1, margin: float = 1.0, weight=None, reduction="mean"):
    """Hinge loss of each class against the target's, (N, C) and (N,)."""
    single = x.ndim == 1
    rows, wanted = (x[None], target.reshape(1)) if single else (x, target)
    score = mx.take_along_axis(rows, wanted[:, None], axis=1)
    loss = mx.power(mx.maximum(margin - score + rows, 0), p)
    if weight is not None:
        loss = loss * weight[wanted][:, None]
    loss = mx.where(mx.arange(rows.shape[1])[None] == wanted[:, None], 0, loss)
    loss = mx.sum(loss, axis=1) / rows.shape[1]
    return reduced(loss[0] if single else loss, reduction)


@in_float32
def multilabel_margin_loss(x, target, reduction: str = "mean"):
    """Hinge loss of each class against each target; targets end at the first -1."""
    single = x.ndim == 1
    rows, wanted = (x[None], target[None]) if single else (x, target)
    valid = mx.cumprod((wanted >= 0).astype(mx.int32), axis=1) > 0
    safe = mx.where(valid, wanted, 0)
    classes = mx.arange(rows.shape[1])
    among = mx.any((classes[None, :, None] == safe[:, None]) & valid[:, None], axis=2)
    score = mx.take_along_axis(rows, safe, axis=1)
    loss = mx.maximum(1 - (score[:, :, None] - rows[:, None, :]), 0)
    counted = valid[:, :, None] & ~among[:, None, :]
    loss = mx.sum(mx.where(counted, loss, 0), axis=(1, 2)) / rows.shape[1]
    return reduced(loss[0] if single else loss, reduction)


@in_float32
def multilabel_soft_margin_loss(x, target, weight=None, reduction: str = "mean"):
    """binary_cross_entropy_with_logits, the mean over classes."""
    loss = -(target * logsigmoid(x) + (1 - target) * logsigmoid(-x))
    loss = loss if weight is None else loss * weight
    return reduced(mx.mean(loss, axis=-1), reduction)
