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

from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType, TracebackType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

#: (what holds them, values by name), and the seed that gives the random state.
_State = tuple[list[tuple[dict[str, Any], dict[str, Any]]], int]


class Repeated:
    """Under `with`, the modules are what they were when this was made, random draws included.

    `called`: modules, and functions, methods and objects that call those that they hold or name.
    Afterwards their statistics, their counters and the random state are as before the `with`: the
    pass has been counted already. Weights are left alone.
    """

    def __init__(self, *called: Any) -> None:
        self._modules = {id(m): m for value in called for m in _modules(value)}.values()
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


def _modules(value: Any, depth: int = 3) -> Iterator[nn.Module]:
    """The modules that a call of a value may run."""
    if isinstance(value, nn.Module):
        yield value
        return
    inside: list[Any] = []
    if isinstance(value, MethodType):
        inside = [value.__self__]
    elif isinstance(value, FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if _is_set(c)]
        named = (value.__globals__.get(name) for name in value.__code__.co_names)
        inside = [*cells, *(value.__defaults__ or ()), *named]
    elif isinstance(value, (list, tuple)):
        inside = list(value)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, ModuleType)):
        inside = list(vars(value).values())
    for part in inside if depth else ():
        yield from _modules(part, depth - 1)


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False  # a name that has no value yet


def _statistics(module: nn.Module) -> dict[str, Any]:
    """Copies, which nothing changes that is done to the arrays in place."""
    held = ((k, v) for k, v in module.items() if isinstance(v, mx.array))
    return {k: mx.array(v) for k, v in held if k in module._no_grad}


def _counters(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float))}


def _restore(state: _State) -> None:
    held, random = state
    for holder, values in held:
        dict.update(holder, values)  # a module's own `update` is another thing
    mx.random.seed(random)
