"""Functions that are others while a model is traced, by whatever name users' modules hold them:
`from math import sqrt` is another name for `math.sqrt`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch2mlx.export.capture.patched import replaced

#: Modules that are no user's: their code is written for lengths.
NONE_OF_USERS = frozenset({"torch", "torch2mlx", "sympy", "numpy", "mlx"}) | sys.stdlib_module_names


def is_users(name: str) -> bool:
    """Whether a module of this name is neither torch's nor Python's own."""
    return name.partition(".")[0] not in NONE_OF_USERS or name == "__main__"


@contextmanager
def replaced_everywhere(changes: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """While open, functions of modules, (module, name, function) each, are others there and in
    users' modules."""
    originals = {id(getattr(owner, name)): value for owner, name, value in changes}
    held = [
        (names, name, function)
        for names in [vars(module) for module in tuple(sys.modules.values()) if _of_users(module)]
        for name, function in tuple(names.items())
        if id(function) in originals
    ]
    with ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(replaced(owner, name, value))
        for names, name, function in held:
            names[name] = originals[id(function)]
        try:
            yield
        finally:
            for names, name, function in held:
                names[name] = function


def _of_users(module: Any) -> bool:
    names = getattr(module, "__dict__", None)
    return isinstance(names, dict) and is_users(str(names.get("__name__")))
