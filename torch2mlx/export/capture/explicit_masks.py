"""Masks of torch.nn.Transformer as they are given, while a model is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def explicit_masks() -> Iterator[None]:
    """Keeps torch's Transformer layers from comparing a mask with the causal one.

    They branch on the answer, which no trace can follow, to attend without the mask where it is the
    causal one: with the mask the numbers are the same, and a mask that is written in the model is
    found to be causal later, for every length.
    """
    from torch.nn.modules import transformer

    asked: Any = transformer._detect_is_causal_mask

    def told(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    transformer._detect_is_causal_mask = told
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = asked
