"""One parameter under two names, as torch has it after `decoder.weight = encoder.weight`."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit.stubs import tree_flatten


class _Tied(nn.Module):
    """Mixed into the class of a module whose arrays of some keys are another module's."""

    _ties: dict[str, tuple[nn.Module, str]]

    def _tie(self, key: Any) -> tuple[nn.Module, str] | None:
        return self.__dict__.get("_ties", {}).get(key)  # copies are filled before they have it

    def __getitem__(self, key: Any) -> Any:
        found = self._tie(key)
        return super().__getitem__(key) if found is None else found[0][found[1]]

    def __getattr__(self, key: str) -> Any:
        found = self._tie(key)
        return super().__getattr__(key) if found is None else found[0][found[1]]

    def __contains__(self, key: Any) -> bool:
        return self._tie(key) is not None or super().__contains__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        found = self._tie(key)
        if found is None:
            super().__setitem__(key, value)
        else:
            found[0][found[1]] = value

    def __setattr__(self, key: str, value: Any) -> None:
        if self._tie(key) is None:
            super().__setattr__(key, value)
        else:
            self[key] = value


def _owner(root: nn.Module, name: str) -> tuple[Any, str]:
    *path, key = name.split(".")
    owner: Any = root
    for part in path:
        owner = owner[int(part)] if isinstance(owner, (list, tuple)) else owner[part]
    return owner, key


def tie(root: nn.Module, alias: str, name: str) -> None:
    """Makes the parameter `alias` be the parameter `name`, both dotted names from `root`.

    The one that comes first in `root` is kept, as in converted checkpoints; the other is read and
    set through it, so both see every update, and its gradient is the sum.
    """
    order = [key for key, _ in tree_flatten(root.parameters())]
    first, second = (alias, name) if order.index(alias) < order.index(name) else (name, alias)
    (source, key), (owner, place) = _owner(root, name), _owner(root, first)
    value: mx.array = source[key]
    owner[place] = value
    other, hidden = _owner(root, second)
    if isinstance(other, _Tied):
        other._ties[hidden] = (owner, place)
    else:
        kind = type(other)
        object.__setattr__(other, "_ties", {hidden: (owner, place)})
        other.__class__ = type(kind.__name__, (_Tied, kind), {"__doc__": kind.__doc__})
    dict.pop(other, hidden)


def noted(module: nn.Module, note: str) -> set[str]:
    """Dotted names of what a module and those below it list in an attribute of their own."""
    return {
        f"{path}.{key}" if path else key
        for path, owner in module.named_modules()
        for key in owner.__dict__.get(note, ())
    }


def aliases(module: nn.Module) -> set[str]:
    """Dotted names of parameters that are others'."""
    return noted(module, "_ties")
