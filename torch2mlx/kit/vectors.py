"""All parameters of modules as one vector, in torch's order and layouts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import weights


def parameters_to_vector(parameters: Iterable[mx.array]) -> mx.array:
    """torch.nn.utils.parameters_to_vector."""
    return mx.concatenate([p.reshape(-1) for p in parameters])


def vector_to_parameters(vector: mx.array, *modules: nn.Module | Any) -> None:
    """torch.nn.utils.vector_to_parameters: the modules' parameters take their items of a vector.

    Raises ValueError where it has fewer items than they need; torch does too.
    """
    at = 0
    for module in modules:
        for tensor in weights.parameters(module):
            before = tensor.value()
            part = vector[at : at + before.size]
            if part.size != before.size:
                raise ValueError(f"a vector of {vector.size} items is too short for {tensor.name}")
            tensor.put(part.reshape(before.shape).astype(before.dtype))
            at += before.size
