"""A forward pass that two gradients need: torch runs it once and keeps its graph, MLX twice.

once = kit.repeated.Repeated(G)
fake = G(noise)
...
def loss_fn():
    with once:
        fake = G(noise)
    return (D(fake) - 1).square().mean()
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

#: (what holds them, values by name), and the seed that gives the random state.
_State = tuple[list[tuple[dict[str, Any], dict[str, Any]]], int]


class Repeated:
    """Under `with`, the modules are what they were when this was made, random draws included.

    Afterwards their statistics, their counters and the random state are as before the `with`: the
    pass has been counted already. Weights are left alone.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules
        self._first = self._state()
        self._later: list[_State] = []

    def __enter__(self) -> None:
        self._later.append(self._state())
        _restore(self._first)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _restore(self._later.pop())

    def _state(self) -> _State:
        parts = [part for module in self._modules for part in module.modules()]
        held = [
            *((part, _statistics(part)) for part in parts),
            *((vars(part), _counters(part)) for part in parts),
        ]
        state: Any = mx.random.state
        high, low = (int(word) for word in state[0].tolist())
        return held, high << 32 | low


def _statistics(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in module.items() if isinstance(v, mx.array) and k in module._no_grad}


def _counters(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float))}


def _restore(state: _State) -> None:
    held, random = state
    for holder, values in held:
        dict.update(holder, values)  # a module's own `update` is another thing
    mx.random.seed(random)
