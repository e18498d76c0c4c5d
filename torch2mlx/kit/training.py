"""What training loops of torch do around gradients: several modules, accumulation, clipping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten


class Group(nn.Module):
    """Modules that one optimizer trains together."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.modules_ = list(modules)


def add(gradients: Any, more: Any) -> Any:
    """Gradients summed, as `backward` does until they are set to zero; None counts as zero."""
    return more if gradients is None else tree_map(mx.add, gradients, more)


def clip_norm(gradients: Any, max_norm: float, norm_type: float = 2.0) -> tuple[Any, mx.array]:
    """torch's clip_grad_norm_: gradients scaled to a norm of at most max_norm, and that norm."""
    leaves = [mx.abs(g).astype(mx.float32) for _, g in tree_flatten(gradients)]
    if norm_type == float("inf"):
        norm = mx.max(mx.stack([mx.max(g) for g in leaves]))
    else:
        norm = mx.power(sum(mx.sum(mx.power(g, norm_type)) for g in leaves), 1 / norm_type)
    scale = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda g: g * scale.astype(g.dtype), gradients), norm


def clip_value(gradients: Any, clip: float) -> Any:
    """torch's clip_grad_value_."""
    return tree_map(lambda g: mx.clip(g, -clip, clip), gradients)


def assign(module: nn.Module, name: str, value: mx.array) -> None:
    """Sets the parameter of a dotted name."""
    module.update(tree_unflatten([(name, value)]))


def detached(value: Any) -> Any:
    """A value whose arrays have no gradient; what is no array stays as it is."""
    return tree_map(lambda x: mx.stop_gradient(x) if isinstance(x, mx.array) else x, value)


def context() -> Any:
    """A `with` that does nothing, for torch's of devices, gradients and autocast."""
    return nullcontext()


def parameter_count(module: nn.Module, trainable: bool = False) -> int:
    """Numbers in a module's parameters."""
    held = module.trainable_parameters() if trainable else module.parameters()
    return sum(int(p.size) for _, p in tree_flatten(held))


def parameters(*modules: nn.Module) -> Iterator[mx.array]:
    """All parameters one by one, as `model.parameters()` gives them in torch."""
    for module in modules:
        yield from (p for _, p in tree_flatten(module.trainable_parameters()))


def named_parameters(module: nn.Module) -> list[tuple[str, mx.array]]:
    """(name, parameter) pairs."""
    return tree_flatten(module.trainable_parameters())


def average(module: nn.Module, other: nn.Module, decay: float) -> None:
    """Moves a module's parameters towards another's: decay * own + (1 - decay) * other."""
    mixed = tree_map(
        lambda a, b: decay * a + (1 - decay) * b, module.parameters(), other.parameters()
    )
    module.update(mixed)
    mx.eval(module.parameters())
