"""The next token of each sequence from the logits of the decoder, as transformers takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.state.settings import Settings


def forced(settings: Settings, count: int) -> tuple[int, ...]:
    """The tokens among which the next one is, where `count` have followed the start; none where
    all are."""
    last = settings.last if count == settings.most - 1 else ()
    if last:
        return last
    return (settings.first,) if settings.first is not None and count == 0 else ()


def allowed(settings: Settings, logits: Any, count: int) -> Any:
    """Logits (B, V) without what may not follow; `count` tokens have followed the start."""
    import mlx.core as mx

    whole = len(settings.start) + count
    barred = list(settings.never)
    begin = 1 if settings.first is not None else 0
    barred += settings.not_first if count == begin else ()
    if whole < settings.least or count < settings.least_new:
        barred += settings.ends
    logits = _without(logits, barred)
    only = forced(settings, count)
    if only:
        kept = mx.zeros(logits.shape[-1], dtype=mx.bool_)
        kept[mx.array(only)] = True
        logits = mx.where(kept, mx.zeros_like(logits), -mx.inf)
    return logits


def _without(logits: Any, tokens: Sequence[int]) -> Any:
    import mlx.core as mx

    inside = [token for token in tokens if 0 <= token < logits.shape[-1]]
    if not inside:
        return logits
    barred = mx.zeros(logits.shape[-1], dtype=mx.bool_)
    barred[mx.array(inside)] = True
    return mx.where(barred, -mx.inf, logits)


def likely(settings: Settings, logits: Any) -> Any:
    """Logits (B, V) of what is drawn from: by temperature, the likeliest in number, and those
    whose probabilities add up."""
    import mlx.core as mx

    logits = logits / settings.temperature
    if settings.top_k:
        most = min(settings.top_k, logits.shape[-1])
        least = mx.min(mx.topk(logits, most, axis=-1), axis=-1, keepdims=True)
        logits = mx.where(logits < least, -mx.inf, logits)
    if settings.top_p < 1:
        order = mx.argsort(logits, axis=-1)
        ranked = mx.take_along_axis(mx.softmax(logits, axis=-1), order, axis=-1)
        out = mx.cumsum(ranked, axis=-1) <= 1 - settings.top_p
        out[..., -1] = False
        barred = mx.put_along_axis(mx.zeros_like(out), order, out, axis=-1)
        logits = mx.where(barred, -mx.inf, logits)
    return logits


def chosen(settings: Settings, logits: Any, count: int, key: Any) -> Any:
    """The next tokens (B,): the likeliest, or drawn with a key of random numbers."""
    import mlx.core as mx

    logits = allowed(settings, logits.astype(mx.float32), count)
    if settings.temperature == 0:
        return mx.argmax(logits, axis=-1)
    return mx.random.categorical(likely(settings, logits), key=key)
