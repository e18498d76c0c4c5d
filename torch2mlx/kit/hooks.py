"""torch.nn.Module's forward hooks for modules of MLX, which have none of their own.

A hooked module becomes an object of a class made for it, which extends the one that it was of:
`isinstance`, parameters and keys stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.nn as nn


class Handle:
    """What a registration answers: `remove()` takes the hook away."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Takes the hook away; doing so twice is no error."""
        self._hooks[:] = [kept for kept in self._hooks if kept is not self._hook]

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *problem: Any) -> None:
        self.remove()


def _hooked(module: nn.Module) -> Any:
    """A module's own class, with its hooks; made at its first one."""
    kind = type(module)
    if "_before" not in vars(kind):

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            for hook, named in tuple(made._before):
                found = hook(self, args, kwargs) if named else hook(self, args)
                if found is not None and named:
                    args, kwargs = found
                elif found is not None:
                    args = found if isinstance(found, tuple) else (found,)
            answer = kind.__call__(self, *args, **kwargs)
            for hook, named in tuple(made._after):
                found = hook(self, args, kwargs, answer) if named else hook(self, args, answer)
                answer = answer if found is None else found
            return answer

        body = {"__call__": call, "_before": [], "_after": [], "__module__": kind.__module__}
        made: Any = type(kind.__name__, (kind,), body)
        module.__class__ = made
    return type(module)


def register_forward_hook(
    module: nn.Module,
    hook: Callable[..., Any],
    *,
    prepend: bool = False,
    with_kwargs: bool = False,
    always_call: bool = False,
) -> Handle:
    """Calls hook(module, args, answer) after each call of the module; what it answers, if anything,
    takes the answer's place. `with_kwargs`: hook(module, args, kwargs, answer)."""
    return _registered(_hooked(module)._after, (hook, with_kwargs), prepend)


def register_forward_pre_hook(
    module: nn.Module,
    hook: Callable[..., Any],
    *,
    prepend: bool = False,
    with_kwargs: bool = False,
) -> Handle:
    """Calls hook(module, args) before each call of the module; what it answers, if anything, takes
    the arguments' place. `with_kwargs`: hook(module, args, kwargs), which answers both."""
    return _registered(_hooked(module)._before, (hook, with_kwargs), prepend)


def _registered(hooks: list[Any], hook: Any, first: bool) -> Handle:
    hooks.insert(0 if first else len(hooks), hook)
    return Handle(hooks, hook)
