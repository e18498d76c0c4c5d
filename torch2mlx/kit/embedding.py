"""Embeddings with a padding index, and sums, means and maxima over bags of them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit.distance import power_norm
from torch2mlx.kit.functional import embedding


class Embedding(nn.Module):
    """torch.nn.Embedding whose `padding_idx` row gets no gradient. weight: (V, D)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int) -> None:
        super().__init__()
        self.weight = mx.random.normal((num_embeddings, embedding_dim))
        self._padding = padding_idx

    def __call__(self, indices: mx.array) -> mx.array:
        return embedding(indices, self.weight, self._padding)

    def as_linear(self, x: mx.array) -> mx.array:
        """The table as the weight of a linear layer: x (..., D) -> (..., V)."""
        return x @ self.weight.T

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine"
    ) -> nn.QuantizedEmbedding:
        """MLX's own layer with the table in a few bits, which is not trained."""
        told: Any = {"group_size": group_size, "bits": bits, "mode": mode}
        return nn.QuantizedEmbedding.from_embedding(self, **told)


def renorm_rows(
    weight: mx.array, indices: mx.array, max_norm: float, norm_type: float = 2.0
) -> mx.array:
    """torch's embedding with max_norm: the table (V, D) with the rows that `indices` name scaled
    to a p-norm of at most max_norm; without a gradient."""
    weight = mx.stop_gradient(weight)
    norm = power_norm(weight.astype(mx.float32), norm_type, -1, True)
    used = mx.zeros((weight.shape[0], 1), mx.bool_)
    used[indices.reshape(-1)] = True
    scale = mx.where(used & (norm > max_norm), max_norm / (norm + 1e-7), 1.0)
    return (weight * scale).astype(weight.dtype)


class EmbeddingBag(nn.Module):
    """torch.nn.EmbeddingBag. weight: (V, D).

    Called with (B, L) indices, or with flat indices and the `offsets` where bags begin; answers
    (B, D). `per_sample_weights` (mode "sum") has the shape of the indices.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__()
        _check_mode(mode)
        self.weight = mx.random.normal((num_embeddings, embedding_dim))
        self._mode, self._last, self._padding = mode, include_last_offset, padding_idx

    def __call__(
        self,
        indices: mx.array,
        offsets: mx.array | None = None,
        per_sample_weights: mx.array | None = None,
    ) -> mx.array:
        return embedding_bag(
            indices,
            self.weight,
            offsets,
            per_sample_weights,
            mode=self._mode,
            include_last_offset=self._last,
            padding_idx=self._padding,
        )


def embedding_bag(
    indices: mx.array,
    weight: mx.array,
    offsets: mx.array | None = None,
    per_sample_weights: mx.array | None = None,
    *,
    mode: str = "mean",
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> mx.array:
    """torch.nn.functional.embedding_bag: sums, means or maxima of rows of a table (V, D).

    Takes (B, L) indices, or flat ones and the `offsets` where bags begin, to which
    `include_last_offset` adds the number of indices (torch's answers are not defined for another
    number); answers (B, D), zeros for a bag of nothing. Rows of
    `padding_idx` are in no bag. Raises ValueError for another mode, or flat indices without
    offsets.
    """
    _check_mode(mode)
    bags, count = _bags(indices, offsets, include_last_offset)
    flat = indices.reshape(-1)
    rows = weight[flat]
    kept = mx.ones(flat.shape, rows.dtype)
    if padding_idx is not None:
        kept = (flat != padding_idx % weight.shape[0]).astype(rows.dtype)
    if mode == "max":
        return _maxima(rows, bags, kept, count)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    total = mx.zeros((count, rows.shape[1]), rows.dtype).at[bags].add(rows * kept[:, None])
    if mode == "sum":
        return total
    sizes = mx.zeros((count,), rows.dtype).at[bags].add(kept)[:, None]
    return total / mx.maximum(sizes, 1)


def _check_mode(mode: str) -> None:
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"mode={mode!r}: choose 'sum', 'mean' or 'max'")


def _bags(indices: mx.array, offsets: mx.array | None, last: bool) -> tuple[mx.array, int]:
    """(bag of each flat index, number of bags)."""
    if indices.ndim == 2:
        rows, length = indices.shape
        return mx.repeat(mx.arange(rows), length), rows
    if offsets is None:
        raise ValueError("flat indices need offsets")
    starts = offsets[:-1] if last else offsets
    positions = mx.arange(indices.size)
    return mx.sum(positions[:, None] >= starts[None], axis=1) - 1, starts.size


def _maxima(rows: mx.array, bags: mx.array, kept: mx.array, count: int) -> mx.array:
    """Maxima of bags; the gradient goes to the first item that has one, as in torch."""
    values = mx.where(kept[:, None] > 0, mx.stop_gradient(rows), -mx.inf)
    lowest = mx.full((count, rows.shape[1]), -mx.inf, rows.dtype)
    best = lowest.at[bags].maximum(values)
    place = mx.arange(rows.shape[0])[:, None]
    candidate = mx.where((values == best[bags]) & (kept[:, None] > 0), place, rows.shape[0])
    first = (
        mx.full(best.shape, rows.shape[0], mx.int32).at[bags].minimum(candidate.astype(mx.int32))
    )
    safe = mx.minimum(first, rows.shape[0] - 1)
    found = mx.take_along_axis(rows, safe, axis=0)
    return mx.where(first < rows.shape[0], found, 0)
