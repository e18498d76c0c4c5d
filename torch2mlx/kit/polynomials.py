"""Families of orthogonal polynomials by their recurrences, as torch.special has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from torch2mlx.kit.gamma import in_full

#: family -> the polynomial of degree 1, and the next from (x, degree k, the last, the one before).
_FAMILIES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "chebyshev_t": (lambda x: x, lambda x, k, p, q: 2 * x * p - q),
    "chebyshev_u": (lambda x: 2 * x, lambda x, k, p, q: 2 * x * p - q),
    "chebyshev_v": (lambda x: 2 * x - 1, lambda x, k, p, q: 2 * x * p - q),
    "chebyshev_w": (lambda x: 2 * x + 1, lambda x, k, p, q: 2 * x * p - q),
    "hermite_h": (lambda x: 2 * x, lambda x, k, p, q: 2 * x * p - 2 * k * q),
    "hermite_he": (lambda x: x, lambda x, k, p, q: x * p - k * q),
    "laguerre_l": (lambda x: 1 - x, lambda x, k, p, q: ((2 * k + 1 - x) * p - k * q) / (k + 1)),
    "legendre_p": (lambda x: x, lambda x, k, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1)),
}


def polynomial(family: str, x: Any, n: Any, shifted: bool = False) -> mx.array:
    """The polynomial of degree n of a family at x, elementwise; 0 for n <= -1. Degrees of floats
    are cut to whole numbers.

    `family` is one of "chebyshev_t", "_u", "_v", "_w", "hermite_h", "hermite_he", "laguerre_l" and
    "legendre_p"; `shifted` has 2 x - 1 in the place of x. x and n broadcast; the largest of an
    array n is read. Raises ValueError for another family.
    """
    if family not in _FAMILIES:
        raise ValueError(f"family={family!r}: choose one of {', '.join(_FAMILIES)}")
    first, following = _FAMILIES[family]
    x, n = (v if isinstance(v, mx.array) else mx.array(v) for v in (x, n))
    largest: Any = mx.max(n).item() if n.size else 0
    highest = int(largest)
    whole = not mx.issubdtype(n.dtype, mx.floating)

    def value(x: mx.array, n: mx.array) -> mx.array:
        x, n = mx.broadcast_arrays(2 * x - 1 if shifted else x, mx.trunc(n))
        before, now = mx.ones_like(x), first(x)
        found = mx.where(n == 0, before, mx.zeros_like(x))
        for k in range(1, highest + 1):
            found = mx.where(n == k, now, found)
            before, now = now, following(x, k, now, before)
        return found

    if whole and mx.issubdtype(x.dtype, mx.floating):
        return in_full(lambda x: value(x, n.astype(x.dtype)), x)
    return in_full(value, x, n)
