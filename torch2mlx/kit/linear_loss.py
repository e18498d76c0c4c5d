"""A linear layer and the cross entropy of what it gives."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit.losses import cross_entropy


class LinearCrossEntropyLoss(nn.Module):
    """torch.nn.LinearCrossEntropyLoss. input: (N, in_features); target: (N,), or probabilities.

    `weight` (num_classes,) scales classes, and is never trained.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        bias: bool = False,
        reduction: str = "mean",
        weight: mx.array | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, num_classes, bias=bias)
        if weight is not None:
            self.weight = weight
            self.freeze(keys=["weight"], recurse=False)
        ignored = -100 if ignore_index is None else ignore_index
        self._options = (ignored, reduction, label_smoothing)

    def __call__(self, x: mx.array, target: mx.array) -> mx.array:
        return cross_entropy(self.linear(x), target, self.get("weight"), *self._options)
