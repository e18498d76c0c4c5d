"""einops for MLX: its layers, and `repeat`, which einops itself cannot do with MLX's arrays.

einops is imported when one of these is used.
"""

from __future__ import annotations

import re
from typing import Any

import mlx.core as mx
import mlx.nn as nn


def _items(side: str) -> list[str]:
    """Names, numbers and the ellipsis of one side of a pattern, brackets left out."""
    return re.findall(r"\w+|\.\.\.|…", side)


def repeat(x: mx.array, pattern: str, **axes_lengths: int) -> mx.array:
    """einops.repeat: axes that only the right side names are new, of the lengths given; numbers
    there are lengths themselves."""
    import einops

    if isinstance(x, (list, tuple)):
        x = mx.stack(list(x))
    left, right = pattern.split("->")
    numbered = iter(range(len(right)))
    named: dict[str, int] = {}

    def name(match: re.Match[str]) -> str:
        made = f"new{next(numbered)}"
        named[made] = int(match[0])
        return made

    right = re.sub(r"(?<!\w)(?!1\b)\d+\b", name, right)
    old = [item for item in _items(left) if not item.isdigit()]
    items = _items(right)
    new = [i for i in items if i not in old and i != "1"]
    lengths = {**axes_lengths, **named}
    known = {k: v for k, v in axes_lengths.items() if k not in new}
    ones = " ".join("1" if item in new else item for item in items if item != "1")
    x = einops.rearrange(x, f"{left} -> {ones}", **known)
    shape, place = list(x.shape), 0
    kept = [item for item in items if item != "1"]
    for i, item in enumerate(kept):
        if item in ("...", "…"):
            place += x.ndim - len(kept)
        if item in new:
            shape[place + i] = lengths[item]
    x = mx.broadcast_to(x, shape)
    checked = {k: v for k, v in lengths.items() if k in kept}
    return einops.rearrange(x, f"{' '.join(kept)} -> {right}", **checked)


class Rearrange(nn.Module):
    """einops.layers.torch.Rearrange."""

    def __init__(self, pattern: str, **axes_lengths: int) -> None:
        super().__init__()
        self._pattern, self._lengths = pattern, axes_lengths

    def __call__(self, x: Any) -> mx.array:
        import einops

        return einops.rearrange(x, self._pattern, **self._lengths)


class Reduce(nn.Module):
    """einops.layers.torch.Reduce."""

    def __init__(self, pattern: str, reduction: Any, **axes_lengths: int) -> None:
        super().__init__()
        self._pattern, self._reduction, self._lengths = pattern, reduction, axes_lengths

    def __call__(self, x: Any) -> mx.array:
        import einops

        return einops.reduce(x, self._pattern, self._reduction, **self._lengths)
