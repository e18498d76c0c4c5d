"""Embeddings with a padding index, and sums, means and maxima over bags of them."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit.functional import embedding


class Embedding(nn.Module):
    """torch.nn.Embedding whose `padding_idx` row gets no gradient. weight: (V, D)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int) -> None:
        super().__init__()
        self.weight = mx.random.normal((num_embeddings, embedding_dim))
        self._padding = padding_idx

    def __call__(self, indices: mx.array) -> mx.array:
        return embedding(indices, self.weight, self._padding)


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
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"mode={mode!r}: choose 'sum', 'mean' or 'max'")
        self.weight = mx.random.normal((num_embeddings, embedding_dim))
        self._mode, self._last, self._padding = mode, include_last_offset, padding_idx

    def _bags(self, indices: mx.array, offsets: mx.array | None) -> tuple[mx.array, int]:
        """(bag of each flat index, number of bags)."""
        if indices.ndim == 2:
            rows, length = indices.shape
            return mx.repeat(mx.arange(rows), length), rows
        if offsets is None:
            raise ValueError("flat indices need offsets")
        starts = offsets[:-1] if self._last else offsets
        positions = mx.arange(indices.size)
        return mx.sum(positions[:, None] >= starts[None], axis=1) - 1, starts.size

    def _maxima(self, rows: mx.array, bags: mx.array, kept: mx.array, count: int) -> mx.array:
        """Maxima of bags; the gradient goes to the first item that has one, as in torch."""
        values = mx.where(kept[:, None] > 0, mx.stop_gradient(rows), -mx.inf)
        lowest = mx.full((count, rows.shape[1]), -mx.inf, rows.dtype)
        best = lowest.at[bags].maximum(values)
        place = mx.arange(rows.shape[0])[:, None]
        candidate = mx.where((values == best[bags]) & (kept[:, None] > 0), place, rows.shape[0])
        first = (
            mx.full(best.shape, rows.shape[0], mx.int32)
            .at[bags]
            .minimum(candidate.astype(mx.int32))
        )
        safe = mx.minimum(first, rows.shape[0] - 1)
        found = mx.take_along_axis(rows, safe, axis=0)
        return mx.where(first < rows.shape[0], found, 0)

    def __call__(
        self,
        indices: mx.array,
        offsets: mx.array | None = None,
        per_sample_weights: mx.array | None = None,
    ) -> mx.array:
        bags, count = self._bags(indices, offsets)
        flat = indices.reshape(-1)
        rows = self.weight[flat]
        kept = mx.ones(flat.shape, rows.dtype)
        if self._padding is not None:
            kept = (flat != self._padding).astype(rows.dtype)
        sizes = mx.zeros((count,), rows.dtype).at[bags].add(kept)[:, None]
        if self._mode == "max":
            return self._maxima(rows, bags, kept, count)
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.reshape(-1, 1)
        total = mx.zeros((count, rows.shape[1]), rows.dtype).at[bags].add(rows * kept[:, None])
        return total / mx.maximum(sizes, 1) if self._mode == "mean" else total
