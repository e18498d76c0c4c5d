"""`@lowers("aten::add", ...)`: which function writes an operator of torch in MLX."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from torch2mlx.errors import TranslationError

Lowering = Callable[..., Any]
Written = TypeVar("Written", bound=Lowering)
_LOWERINGS: dict[str, Lowering] = {}
_USERS: dict[str, Lowering] = {}
#: Namespaces that torch fills when it is imported, so that a name not there never will be.
_TORCHS = ("aten::", "prims::")


def lowers(*names: str) -> Callable[[Written], Written]:
    """Registers a function for operators, "namespace::name" or "namespace::name.overload".

    It is called with the builder and the operator's arguments by the names of its schema (devices,
    layouts and generators left out), and gives a node, a tuple of nodes, or a number. A name with
    an overload wins over the name alone. A function given again replaces your own of that name.

    Raises ValueError for a name without a namespace, and for one that torch's own namespaces do not
    have; a name that no namespace has when a model is translated is an error there.
    """

    def register(function: Written) -> Written:
        users = not (function.__module__ or "").startswith("torch2mlx.")  # None within exec
        table = _USERS if users else _LOWERINGS
        for name in names:
            if "::" not in name:
                raise ValueError(f"{name!r}: give the namespace too, as in 'aten::add'")
            if name in table and not users:
                raise ValueError(f"{name} has a lowering already: {table[name].__name__}")
            if users and "torch" in sys.modules and name.startswith(_TORCHS):
                _known(name)
            table[name] = function
        return function

    return register


def given_lowering(name: str, overload: str) -> Lowering | None:
    """The function given for an operator: a user's first, then the overload's, then the name's."""
    for table in (_USERS, _LOWERINGS):
        for key in (f"{name}.{overload}", name):
            if key in table:
                return table[key]
    return None


def check_users() -> None:
    """Raises TranslationError for a user's lowering of an operator that torch does not have, and
    forgets it."""
    for name in tuple(_USERS):
        try:
            _known(name)
        except ValueError as problem:
            del _USERS[name]
            raise TranslationError(str(problem)) from None


def _known(name: str) -> None:
    import torch

    space, _, rest = name.partition("::")
    operator, _, overload = rest.partition(".")
    found = getattr(getattr(torch.ops, space), operator, None)
    if found is not None and (not overload or overload in (*found.overloads(), "default")):
        return
    every = {*torch._C._dispatch_get_all_op_names()}
    near = difflib.get_close_matches(name, every, 1, 0.8)
    hint = f"; is {near[0]} meant?" if near else ": define it before the model is translated"
    raise ValueError(f"lowers({name!r}): torch has no such operator{hint}")


def lowered_names() -> tuple[str, ...]:
    """All names registered, sorted."""
    return tuple(sorted({**_LOWERINGS, **_USERS}))
