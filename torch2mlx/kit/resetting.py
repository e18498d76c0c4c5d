"""torch's `layer.reset_parameters()`: first weights drawn anew, as torch's layers draw them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import activations, conv, embedding, layers, norm, options, recurrent, weights


def _uniform(module: nn.Module, bound: float) -> None:
    """Every array of a layer itself, uniform between two bounds."""
    for tensor in weights.tensors(module):
        shape, dtype = tensor.value().shape, tensor.value().dtype
        tensor.put(mx.random.uniform(-bound, bound, shape).astype(dtype))


def _by_inputs(module: nn.Module) -> None:
    """Layers whose bounds are those of the inputs of one unit, in torch's layout."""
    _uniform(module, 1 / math.sqrt(math.prod(weights.get(module, "weight").shape[1:])))


def _bilinear(module: nn.Module) -> None:
    _uniform(module, 1 / math.sqrt(weights.get(module, "weight").shape[1]))


def _recurrent(module: nn.Module) -> None:
    _uniform(module, 1 / math.sqrt(options.of(module, "hidden_size")))


def _embedding(module: Any) -> None:
    module.weight = mx.random.normal(module.weight.shape).astype(module.weight.dtype)
    row = getattr(module, "_padding", None)
    if row is not None:
        module.weight[row] = 0


def _norm(module: Any) -> None:
    _filled(module, {"weight": 1, "bias": 0})
    _untracked(module)


def _untracked(module: Any) -> None:
    _filled(module, {"running_mean": 0, "running_var": 1})
    if hasattr(module, "_batches"):
        module._batches = 0


def _filled(module: Any, values: dict[str, int]) -> None:
    for name, value in values.items():
        if name in module:
            module[name] = mx.full(module[name].shape, value, dtype=module[name].dtype)


def _slope(module: Any) -> None:
    module.weight = mx.full(module.weight.shape, 0.25, dtype=module.weight.dtype)


#: Kinds of layers, and what draws theirs.
_RULES: tuple[tuple[Any, Callable[[Any], None]], ...] = (
    ((nn.Linear, conv.CONVOLUTIONS, conv.TRANSPOSED), _by_inputs),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _by_inputs),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _by_inputs),
    (nn.Bilinear, _bilinear),
    ((recurrent.LAYERS, recurrent.CELLS), _recurrent),
    ((nn.Embedding, layers.Embedding, embedding.Embedding, embedding.EmbeddingBag), _embedding),
    ((norm.BatchNorm, norm.InstanceNorm, norm.GroupNorm, norm.LayerNorm, norm.RMSNorm), _norm),
    ((nn.BatchNorm, nn.InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm), _norm),
    ((nn.PReLU, activations.PReLU), _slope),
)
#: Layers that may have running statistics.
_TRACKING = (norm.BatchNorm, norm.InstanceNorm, nn.BatchNorm, nn.InstanceNorm)


def _rule(module: Any) -> Callable[[Any], None] | None:
    return next((rule for kinds, rule in _RULES if isinstance(module, kinds)), None)


def can(module: Any) -> bool:
    """torch's `hasattr(module, "reset_parameters")`."""
    return hasattr(module, "reset_parameters") or _rule(module) is not None


def reset(module: Any) -> None:
    """Draws what a layer starts from, or calls a module's own `reset_parameters`. Raises
    AttributeError where there is neither, as torch does."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
        return
    rule = _rule(module)
    if rule is None:
        raise AttributeError(f"{type(module).__name__} has no reset_parameters")
    rule(module)


def tracks(module: Any) -> bool:
    """torch's `hasattr(module, "reset_running_stats")`."""
    return hasattr(module, "reset_running_stats") or isinstance(module, _TRACKING)


def statistics(module: Any) -> None:
    """torch's `layer.reset_running_stats()` of a batch or instance norm, or a module's own. Raises
    AttributeError where there is neither, as torch does."""
    if hasattr(module, "reset_running_stats"):
        module.reset_running_stats()
    elif isinstance(module, _TRACKING):
        _untracked(module)
    else:
        raise AttributeError(f"{type(module).__name__} has no reset_running_stats")
