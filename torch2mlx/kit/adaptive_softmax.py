"""Softmax over many classes, the rare ones in clusters (Grave et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit.activations import log_softmax


class AdaptiveLogSoftmaxWithLoss(nn.Module):
    """torch.nn.AdaptiveLogSoftmaxWithLoss. input: (N, in_features), target: (N,) or without N.

    Answers (output, loss): the log-probability of each target (N,), and the mean of their
    negatives. All clusters are computed for all rows, so that shapes do not depend on values.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        rising = bool(cutoffs) and cutoffs == sorted(set(cutoffs))
        if not rising or not 0 < cutoffs[0] <= cutoffs[-1] < n_classes:
            raise ValueError(f"cutoffs must rise between 1 and {n_classes - 1}, not {cutoffs}")
        self._bounds = [*cutoffs, n_classes]
        self.head = nn.Linear(in_features, cutoffs[0] + len(cutoffs), bias=head_bias)
        self.tail = []
        for i in range(len(cutoffs)):
            hidden = int(in_features // div_value ** (i + 1))
            size = self._bounds[i + 1] - self._bounds[i]
            self.tail.append(
                nn.Sequential(
                    nn.Linear(in_features, hidden, bias=False), nn.Linear(hidden, size, bias=False)
                )
            )

    def log_prob(self, x: mx.array) -> mx.array:
        """Log-probabilities of all classes: (N, in_features) -> (N, n_classes)."""
        head = log_softmax(self.head(x), -1)
        common = self._bounds[0]
        parts = [head[:, :common]]
        for i, tail in enumerate(self.tail):
            parts.append(log_softmax(tail(x), -1) + head[:, common + i, None])
        return mx.concatenate(parts, axis=-1)

    def predict(self, x: mx.array) -> mx.array:
        """The likeliest class of each row."""
        return mx.argmax(self.log_prob(x), axis=-1)

    def __call__(self, x: mx.array, target: mx.array) -> tuple[mx.array, mx.array]:
        single = target.ndim == 0
        rows, wanted = (x[None], target[None]) if single else (x, target)
        output = mx.take_along_axis(self.log_prob(rows), wanted[:, None], axis=1)[:, 0]
        return output[0] if single else output, -mx.mean(output)
