"""How near what a torch script computes comes to places where a derivative jumps.

An item that lies within rounding of zero before a ReLU may lie on the other side in another
library, and its gradient is then another: of n items, one that turns changes a gradient by about
1/sqrt(n). Where that may have happened is counted here, and nowhere else is there more room for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: Distances from a place where a derivative jumps, relative to the size of what is there.
LEVELS = tuple(10.0 ** (half / 2) for half in range(-14, 0))


def _bounds(x: Any, low: Any = None, high: Any = None, *_: Any) -> list[Any]:
    return [x - bound for bound in (low, high) if bound is not None]


#: By the name of the operator: how far its items are from where its derivative jumps.
_JUMPS: dict[str, Callable[..., list[Any]]] = {
    "relu": lambda x, *_: [x],
    "leaky_relu": lambda x, *_: [x],
    "elu": lambda x, *_: [x],
    "abs": lambda x, *_: [x],
    "_prelu_kernel": lambda x, *_: [x],
    "threshold": lambda x, at, *_: [x - at],
    "clamp": _bounds,
    "clamp_min": _bounds,
    "clamp_max": _bounds,
    "hardtanh": lambda x, low=-1.0, high=1.0, *_: _bounds(x, low, high),
    "maximum": lambda x, y, *_: [x - y],
    "minimum": lambda x, y, *_: [x - y],
}


class Kinks:
    """Counts, for a step, what lies near such places."""

    def __init__(self) -> None:
        self.near = np.zeros(len(LEVELS))

    def see(self, name: str, args: tuple[Any, ...]) -> None:
        """An operator that is about to run on some arguments."""
        import torch

        distances = _JUMPS.get(name.removesuffix("_"))
        if distances is None or not torch.is_grad_enabled():
            return
        first = args[0]
        if not isinstance(first, torch.Tensor) or not first.is_floating_point():
            return
        for distance in distances(*args):
            self._count(distance.detach(), first.detach())

    def _count(self, distance: Any, values: Any) -> None:
        """The largest share of items at each distance; `values` say what their size is."""
        if not distance.numel():
            return
        size = float(values.double().square().mean().sqrt())
        far = distance.abs()
        shares = [float((far <= level * size).double().mean()) if size else 0.0 for level in LEVELS]
        exact = float((far == 0).double().mean())  # both libraries have the same there
        self.near = np.maximum(self.near, np.maximum(np.array(shares) - exact, 0.0))

    def taken(self) -> list[float]:
        """The shares of a step, by `LEVELS`; a new step begins."""
        near, self.near = self.near, np.zeros(len(LEVELS))
        return [float(share) for share in near]


def turned(near: list[float], apart: float) -> float:
    """The share of items that may lie on the other side, where values are so far apart: single
    items differ by several times what all of them do."""
    return max((s for s, level in zip(near, LEVELS, strict=True) if level <= 20 * apart), default=0)
