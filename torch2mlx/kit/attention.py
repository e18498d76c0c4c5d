"""torch.nn.MultiheadAttention with all its options, on mlx.nn's parameter names."""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn


def additive(mask: mx.array | None, dtype: mx.Dtype) -> mx.array | None:
    """A mask to add to scores; in torch's boolean masks True means: do not look there."""
    if mask is None or mask.dtype != mx.bool_:
        return mask
    return mx.where(mask, mx.array(-mx.inf, dtype), mx.array(0, dtype))


def barred_rows(mask: mx.array) -> mx.array:
    """Whether a mask, of booleans that are True where attention is allowed or of numbers to add,
    leaves a query nothing to attend to: (..., L, 1)."""
    open_ = mask if mask.dtype == mx.bool_ else mask != -mx.inf
    return ~mx.any(open_, axis=-1, keepdims=True)


def scaled_dot_product_attention(
    q: mx.array, k: mx.array, v: mx.array, scale: float, mask: mx.array
) -> mx.array:
    """mx.fast's, with torch's answer for a query that may attend to nothing: 0, and no gradient."""
    barred = barred_rows(mask)
    mask = mask | barred if mask.dtype == mx.bool_ else mx.where(barred, 0, mask)
    y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    return mx.where(barred, 0, y)


class MultiheadAttention(nn.Module):
    """torch.nn.MultiheadAttention.

    query (L, N, E), key (S, N, kdim), value (S, N, vdim), or (N, ...) with `batch_first`, or
    without N. Answers (output, weights): weights (N, L, S), per head (N, H, L, S) unless
    `average_attn_weights`, None unless `need_weights`. `attn_mask` is (L, S) or (N * H, L, S),
    `key_padding_mask` (N, S); boolean masks are True where attention is barred.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {embed_dim}")
        self.query_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.key_proj = nn.Linear(kdim or embed_dim, embed_dim, bias=bias)
        self.value_proj = nn.Linear(vdim or embed_dim, embed_dim, bias=bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        if add_bias_kv:
            self.bias_k = mx.random.normal((1, 1, embed_dim)) * math.sqrt(1 / embed_dim)
            self.bias_v = mx.random.normal((1, 1, embed_dim)) * math.sqrt(1 / embed_dim)
        self._draw(one_weight=embed_dim == (kdim or embed_dim) == (vdim or embed_dim))
        self._heads, self._dropout, self._zero = num_heads, dropout, add_zero_attn
        self._batch_first = batch_first

    def _draw(self, one_weight: bool) -> None:
        """First weights as torch draws them: Glorot's bound, of the three projections as the one
        weight that torch has them in, and biases of zero."""
        for layer in (self.query_proj, self.key_proj, self.value_proj):
            rows, columns = layer.weight.shape
            bound = math.sqrt(6 / ((3 * rows if one_weight else rows) + columns))
            layer.weight = mx.random.uniform(-bound, bound, layer.weight.shape)
        for layer in (self.query_proj, self.key_proj, self.value_proj, self.out_proj):
            if "bias" in layer:
                layer.bias = mx.zeros_like(layer.bias)

    def _extend(self, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """The learned and the zero position that torch may append to keys and values."""
        pairs = [(self.bias_k, self.bias_v)] if "bias_k" in self else []
        if self._zero:
            pairs.append((mx.zeros((1, 1, k.shape[-1]), k.dtype),) * 2)
        for pair in pairs:
            more_k, more_v = (mx.broadcast_to(p, (k.shape[0], 1, k.shape[2])) for p in pair)
            k, v = mx.concatenate([k, more_k], axis=1), mx.concatenate([v, more_v], axis=1)
        return k, v

    def _mask(
        self, attn: mx.array | None, padding: mx.array | None, scores: mx.array
    ) -> mx.array | None:
        """Both masks as one to add, grown by the appended positions."""
        batch, heads, _, total = scores.shape
        attn, padding = additive(attn, scores.dtype), additive(padding, scores.dtype)
        if attn is not None and attn.ndim == 3:
            if attn.shape[0] != batch * heads:
                raise ValueError(f"attn_mask of {attn.shape[0]} for {batch} x {heads} heads")
            attn = mx.unflatten(attn, 0, (batch, heads))
        if padding is not None:
            padding = padding[:, None, None]
            attn = padding if attn is None else attn + padding
        if attn is not None and attn.shape[-1] < total:
            widths = [(0, 0)] * (attn.ndim - 1) + [(0, total - attn.shape[-1])]
            attn = mx.pad(attn, widths)
        return attn

    def _attend(
        self, q, k, v, attn_mask, key_padding_mask, need_weights
    ) -> tuple[mx.array, mx.array]:
        q, k, v = self.query_proj(q), self.key_proj(k), self.value_proj(v)
        k, v = self._extend(k, v)
        batch, length, width = q.shape
        split = lambda t: t.reshape(batch, t.shape[1], self._heads, -1).swapaxes(1, 2)  # noqa: E731
        q, k, v = split(q), split(k), split(v)
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(width // self._heads)
        mask = self._mask(attn_mask, key_padding_mask, scores)
        barred = None
        if mask is not None and not need_weights:  # torch's weights of a barred row are NaN
            barred = barred_rows(mask)
            mask = mx.where(barred, 0, mask)
        if mask is not None:
            scores = scores + mask
        weights = mx.softmax(scores, axis=-1)
        if barred is not None:
            weights = mx.where(barred, 0, weights)
        if self._dropout and self.training:
            weights = nn.Dropout(self._dropout)(weights)
        y = (weights @ v).swapaxes(1, 2).reshape(batch, length, width)
        return self.out_proj(y), weights

    def __call__(
        self,
        query: mx.array,
        key: mx.array,
        value: mx.array,
        key_padding_mask: mx.array | None = None,
        need_weights: bool = True,
        attn_mask: mx.array | None = None,
        average_attn_weights: bool = True,
    ) -> tuple[mx.array, mx.array | None]:
        single = query.ndim == 2
        if single:
            query, key, value = query[None], key[None], value[None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self._batch_first:
            query, key, value = (t.swapaxes(0, 1) for t in (query, key, value))
        masks = (attn_mask, key_padding_mask)
        y, weights = self._attend(query, key, value, *masks, need_weights)
        weights = mx.mean(weights, axis=1) if average_attn_weights else weights
        if single:
            y, weights = y[0], weights[0]
        elif not self._batch_first:
            y = y.swapaxes(0, 1)
        return y, weights if need_weights else None
