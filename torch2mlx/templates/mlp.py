"""A stack of linear layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.errors import ConversionError
from torch2mlx.templates.loading import activation, fill, torch_name


class MLP(nn.Module):
    """Linear layers with an activation between them. x: (..., sizes[0]) -> (..., sizes[-1]).

    `residual` adds a layer's input to its activated output where both have one size. Dropout
    follows each activation.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation_name: str = "relu",
        dropout: float = 0.0,
        residual: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError("an MLP needs at least two sizes")
        pairs = itertools.pairwise(sizes)
        self.layers = [nn.Linear(a, b, bias=bias) for a, b in pairs]
        self.dropout = nn.Dropout(dropout)
        self._activation, self._residual = activation(activation_name), residual

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.layers[:-1]:
            y = self.dropout(self._activation(layer(x)))
            x = x + y if self._residual and x.shape == y.shape else y
        return self.layers[-1](x)

    @classmethod
    def from_torch(cls, module: Any) -> MLP:
        """From an nn.Sequential of Linear, one kind of activation, and Dropout between them.

        Raises ConversionError for any other order.
        """
        linears, names, rates = [], set(), set()
        expected = "Linear"
        for layer in module:
            kind = type(layer).__name__
            if kind == "Linear" and expected != "activation":
                linears.append(layer)
                expected = "activation"
            elif kind == "Dropout" and expected == "Linear" and linears:
                rates.add(layer.p)
            elif kind not in ("Linear", "Dropout") and expected == "activation":
                names.add(torch_name(layer))
                expected = "Linear"
            else:
                raise ConversionError(f"{kind} where {expected} was expected")
        if not linears or expected != "activation" or len(names) > 1 or len(rates) > 1:
            raise ConversionError("not a stack of Linear, one activation and one rate of Dropout")
        sizes = [linears[0].in_features, *(layer.out_features for layer in linears)]
        bias = linears[0].bias is not None
        made = cls(sizes, next(iter(names), "identity"), next(iter(rates), 0.0), bias=bias)
        for target, source in zip(made.layers, linears, strict=True):
            fill(target, source)
        made.train(module.training)
        return made
