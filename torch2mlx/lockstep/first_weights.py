"""Whether both scripts draw their first weights from the same distribution."""

from __future__ import annotations

import math

import numpy as np

#: How many standard errors apart two samples of one distribution may be.
ERRORS = 6.0
#: Samples smaller than this say too little.
FEWEST = 12


def drawn_otherwise(torch: np.ndarray, mlx: np.ndarray) -> str:
    """How first weights differ beyond chance, in words; "" where they do not."""
    a, b = (np.asarray(v, np.float64).reshape(-1) for v in (torch, mlx))
    if a.size != b.size or not np.isfinite(a).all() or not np.isfinite(b).all():
        return ""
    if np.allclose(a, b, rtol=1e-5, atol=1e-7):
        return ""
    fixed = [bool(np.ptp(v) == 0) for v in (a, b)]
    if a.size < 3:
        return ""  # too few to tell a constant from a draw
    if all(fixed):
        return f"torch starts from {a[0]:.4g}, MLX from {b[0]:.4g}"
    if any(fixed):
        words = [
            f"the constant {v[0]:.4g}" if f else "random numbers"
            for v, f in zip((a, b), fixed, strict=True)
        ]
        return f"torch starts from {words[0]}, MLX from {words[1]}"
    if a.size < FEWEST:
        return ""
    return _moments(a, b)


def _moments(a: np.ndarray, b: np.ndarray) -> str:
    n = a.size
    spread = [float(v.std()) for v in (a, b)]
    error = math.hypot(*spread) / math.sqrt(n)
    if abs(a.mean() - b.mean()) > ERRORS * error:
        return f"torch's mean is {a.mean():.4g}, MLX's {b.mean():.4g}"
    tails = [
        max(float(np.mean((v - v.mean()) ** 4)) / s**4, 1.0)
        for v, s in zip((a, b), spread, strict=True)
    ]
    error = math.sqrt(sum((k - 1 + 2 / n) / (4 * n) for k in tails))
    if abs(math.log(spread[1] / spread[0])) > ERRORS * max(error, 0.5 / n):
        return f"torch's standard deviation is {spread[0]:.4g}, MLX's {spread[1]:.4g}"
    places = np.sort(np.concatenate([a, b]))
    one, two = (np.searchsorted(np.sort(v), places, side="right") / n for v in (a, b))
    if np.max(np.abs(one - two)) > 2.7 * math.sqrt(2 / n):
        return "they are drawn from distributions of different shape"
    return ""
