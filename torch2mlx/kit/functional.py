"""Functions of torch.nn.functional that mlx.nn has as modules only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from torch2mlx.kit.dropout import dropout as drop


def linear(x: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
    """x @ weight.T + bias. weight: (out, in)."""
    return x @ weight.T if bias is None else mx.addmm(bias, x, weight.T)


def embedding(indices: mx.array, weight: mx.array, padding_idx: int | None = None) -> mx.array:
    """torch.nn.functional.embedding: rows of a table (V, D); the padding row gets no gradient."""
    rows = weight[indices]
    if padding_idx is None:
        return rows
    padding = (indices == padding_idx % weight.shape[0])[..., None]
    return mx.where(padding, mx.stop_gradient(rows), rows)


def layer_norm(
    x: mx.array,
    normalized_shape: Sequence[int],
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """torch.nn.functional.layer_norm over the last axes."""
    last = len(normalized_shape)
    flat = x.reshape(*x.shape[: x.ndim - last], -1)
    scale, shift = (None if p is None else p.reshape(-1) for p in (weight, bias))
    return mx.fast.layer_norm(flat, scale, shift, eps).reshape(x.shape)


def rms_norm(
    x: mx.array,
    normalized_shape: Sequence[int],
    weight: mx.array | None = None,
    eps: float | None = None,
) -> mx.array:
    """torch.nn.functional.rms_norm over the last axes; without eps that of x's dtype."""
    eps = mx.finfo(x.dtype).eps if eps is None else eps
    flat = x.reshape(*x.shape[: x.ndim - len(normalized_shape)], -1)
    scale = None if weight is None else weight.reshape(-1)
    return mx.fast.rms_norm(flat, scale, eps).reshape(x.shape)


def bilinear(x: mx.array, y: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
    """torch.nn.functional.bilinear. x: (..., in1), y: (..., in2), weight: (O, in1, in2)."""
    rows = [part.reshape(-1, part.shape[-1]) for part in (x, y)]
    product = mx.einsum("bi,oij,bj->bo", rows[0], weight, rows[1])
    found = product.reshape(*x.shape[:-1], weight.shape[0])
    return found if bias is None else found + bias


def attention(
    query: mx.array,
    key: mx.array,
    value: mx.array,
    mask: mx.array | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
) -> mx.array:
    """torch's scaled_dot_product_attention. query: (..., L, E); key, value: (..., S, E)."""
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if query.ndim == 4 and not dropout:
        how: Any = "causal" if causal and query.shape[-2] == key.shape[-2] else mask
        if not causal or how == "causal":
            return mx.fast.scaled_dot_product_attention(query, key, value, scale=scale, mask=how)
    scores = query @ key.swapaxes(-1, -2) * scale
    if causal:
        mask = mx.tri(query.shape[-2], key.shape[-2], dtype=mx.bool_)
    if mask is not None:
        scores = mx.where(mask, scores, -mx.inf) if mask.dtype == mx.bool_ else scores + mask
    return drop(mx.softmax(scores, axis=-1), dropout, dropout > 0) @ value


def gumbel_softmax(
    logits: mx.array, tau: float = 1.0, hard: bool = False, axis: int = -1
) -> mx.array:
    """torch's gumbel_softmax: a soft sample, or a one-hot one with the soft one's gradient."""
    soft = mx.softmax((logits + mx.random.gumbel(logits.shape)) / tau, axis=axis)
    if not hard:
        return soft
    best = mx.argmax(soft, axis=axis, keepdims=True)
    shape = [1] * soft.ndim
    shape[axis] = -1
    places = mx.arange(soft.shape[axis]).reshape(shape)
    return mx.stop_gradient((places == best).astype(soft.dtype) - soft) + soft
