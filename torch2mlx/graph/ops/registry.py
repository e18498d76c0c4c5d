"""`@lowers("aten::add", ...)`: which function writes an operator of torch in MLX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Lowering = Callable[..., Any]
_LOWERINGS: dict[str, Lowering] = {}
_USERS: dict[str, Lowering] = {}


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Registers a function for operators, "namespace::name" or "namespace::name.overload".

    It is called with the builder and the operator's arguments by the names of its schema (devices,
    layouts and generators left out), and gives a node, a tuple of nodes, or a number. A name with
    an overload wins over the name alone. Raises ValueError for a second function of one name.
    """

    def register(function: Lowering) -> Lowering:
        users = not function.__module__.startswith("torch2mlx.")
        table = _USERS if users else _LOWERINGS
        for name in names:
            if "::" not in name:
                raise ValueError(f"{name!r}: give the namespace too, as in 'aten::add'")
            if name in table:
                raise ValueError(f"{name} has a lowering already: {table[name].__name__}")
            table[name] = function
        return function

    return register


def find_lowering(name: str, overload: str) -> Lowering | None:
    """The function for an operator: a user's first, then the overload's, then the name's."""
    for table in (_USERS, _LOWERINGS):
        for key in (f"{name}.{overload}", name):
            if key in table:
                return table[key]
    return None


def lowered_names() -> tuple[str, ...]:
    """All names registered, sorted."""
    return tuple(sorted({**_LOWERINGS, **_USERS}))
