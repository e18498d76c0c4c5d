"""Objects that hold state, taken apart into tensors and put together again: lists, dicts, and any
other object by its attributes, as the caches of transformers are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: The way to a part: attributes, keys, places.
Path = tuple[Any, ...]

_DEEPEST = 12
#: Objects of these packages are values, not holders of others.
_VALUES = ("builtins", "torch", "numpy", "enum", "mlx")


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All leaves of a structure with the ways to them."""
    items = _items(value) if len(path) < _DEEPEST else None
    if items is None:
        yield path, value
        return
    for key, item in items:
        yield from leaves(item, (*path, key))


def tensors_of(value: Any) -> dict[Path, Any]:
    """The tensors in a structure by the ways to them, in a fixed order."""
    return {path: leaf for path, leaf in leaves(value) if _is_tensor(leaf)}


def numbers_of(value: Any) -> dict[Path, int]:
    """The integers in a structure by the ways to them; truth values are none."""
    found = {}
    for path, leaf in leaves(value):
        if isinstance(leaf, int) and not isinstance(leaf, bool):
            found[path] = leaf
    return found


def with_parts(value: Any, parts: Mapping[Path, Any]) -> Any:
    """A copy of a structure with other leaves at some ways; the rest is shared with it."""
    return _changed(value, lambda path, leaf: parts.get(path, leaf), ())


def _items(value: Any) -> list[tuple[Any, Any]] | None:
    """The parts of a holder; None of what is a leaf."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, type) or callable(value) or not hasattr(value, "__dict__"):
        return None
    if type(value).__module__.split(".")[0] in _VALUES:
        return None
    return list(vars(value).items())


def _changed(value: Any, change: Callable[[Path, Any], Any], path: Path) -> Any:
    items = _items(value) if len(path) < _DEEPEST else None
    if items is None:
        return change(path, value)
    made = {key: _changed(item, change, (*path, key)) for key, item in items}
    if isinstance(value, Mapping):
        whole = copy.copy(value)
        for key, item in made.items():
            whole[key] = item  # type: ignore[index]
        return whole
    if isinstance(value, (list, tuple)):
        parts = list(made.values())
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    whole = copy.copy(value)
    vars(whole).update(made)
    return whole


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
