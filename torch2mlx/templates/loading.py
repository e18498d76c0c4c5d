"""What the templates share: activations by name, weights from torch layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.errors import ConversionError
from torch2mlx.export.lower.build_layer import build
from torch2mlx.kit import activations

Activation = Callable[[mx.array], mx.array]

ACTIVATIONS: Mapping[str, Activation] = {
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "tanh": mx.tanh,
    "sigmoid": mx.sigmoid,
    "leaky_relu": activations.leaky_relu,
    "elu": activations.elu,
    "identity": lambda x: x,
}


def activation(name: str) -> Activation:
    """An activation by name. Raises ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def torch_name(layer: Any) -> str:
    """The name of a torch activation layer with its usual options, as `activation` takes it."""
    kind = type(layer).__name__
    names = {"ReLU": "relu", "SiLU": "silu", "Tanh": "tanh", "Sigmoid": "sigmoid"}
    names |= {"Identity": "identity"}
    usual = (
        (kind == "GELU" and layer.approximate == "none", "gelu"),
        (kind == "LeakyReLU" and layer.negative_slope == 0.01, "leaky_relu"),
        (kind == "ELU" and layer.alpha == 1.0, "elu"),
    )
    found = names.get(kind) or next((name for fits, name in usual if fits), None)
    if found is None:
        raise ConversionError(f"{layer}: no activation that this template knows")
    return found


def fill(target: nn.Module, source: Any) -> None:
    """Loads a torch layer's weights into its MLX twin, strictly."""
    built = build(source)
    from mlx.utils import tree_flatten

    target.load_weights(
        cast("list[tuple[str, Any]]", tree_flatten(built.parameters())), strict=True
    )
