"""When numbers of the two libraries agree, and how far rounding alone may carry them apart.

Differences are relative: ||a - b|| / ||a||, over a whole array, so that single items that rounding
turns around (a gradient that is zero but for rounding, under Adam) do not decide. Allowed is a
small constant, and in addition `SPREAD` times what a second run of torch differs from the first
when rounding is put into its weights, inputs and gradients: training that amplifies rounding from
step to step gets as much more room as it amplifies, and no other training does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torch2mlx.lockstep.draws import orders

#: Of values (batches, outputs of modules, losses), of gradients, of updates and slots.
VALUES, GRADIENTS, UPDATES = 2e-5, 2e-4, 1e-3
SPREAD = 30.0


def size(values: Any) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(np.asarray(values, np.float64).reshape(-1)))


def relative(torch: Any, mlx: Any, floor: float = 0.0) -> float:
    """||a - b|| / max(||a||, floor); 0 where both are zero, infinite where one is not finite."""
    a, b = (np.asarray(v, np.float64).reshape(-1) for v in (torch, mlx))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    difference = np.where(same, 0, a - b)
    below = max(float(np.linalg.norm(np.where(np.isfinite(a), a, 0))), floor)
    if not np.isfinite(difference).all():
        return math.inf
    found = float(np.linalg.norm(difference))
    return found / below if below else math.inf


def apart(torch: Any, mlx: Any) -> float | None:
    """How far two arrays are apart in the layout that suits best; None for other sizes."""
    a, b = np.asarray(torch), np.asarray(mlx)
    if a.size != b.size:
        return None
    if a.shape == b.shape:
        found = relative(a, b)
        if found < 1e-3 or a.ndim < 2:
            return found
    tried = list(orders(a.shape, b.shape))[:24]
    if not tried:
        return relative(a.reshape(-1), b.reshape(-1))
    return min(relative(a.transpose(order), b) for order in tried)


def reordered(torch: Any, mlx: Any) -> bool:
    """Whether both hold the same numbers in another order."""
    a, b = (np.sort(np.asarray(v, np.float64).reshape(-1)) for v in (torch, mlx))
    return a.size == b.size and a.size > 1 and relative(a, b) < 1e-3


def allowed(base: float, torch: Any, noisy: Any) -> float:
    """What may lie between the two libraries, from what lies between two runs of torch."""
    if noisy is None or np.shape(noisy) != np.shape(torch):
        return base
    return base + SPREAD * min(relative(torch, noisy), 1.0)
