"""Dotted keys and nested trees, with exactly the meaning that mlx.utils gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch2mlx import _core
from torch2mlx.errors import KeyCollisionError


def nest(tensors: Mapping[str, Any], lists: bool = True) -> Any:
    """Dotted keys as a tree: {"a.0.b": x} -> {"a": [{"b": x}]}.

    Equals `mlx.utils.tree_unflatten(list(tensors.items()))`; with `lists=False` every level is a
    dict: {"a": {"0": {"b": x}}}. Raises KeyCollisionError for keys that cannot stand together,
    ValueError for a key nested or numbered beyond the limits of the core.
    """
    try:
        return _core.nest(list(tensors), list(tensors.values()), lists=lists)
    except _core.CoreError as error:
        if error.args[0] == "KEY_COLLISION":
            raise KeyCollisionError(f"key {error.args[3]!r}: {error.args[1]}") from error
        raise


def flatten(
    tree: Any, prefix: str = "", is_leaf: Callable[[Any], bool] | None = None
) -> dict[str, Any]:
    """A tree of dicts, lists and tuples as dotted keys: the inverse of `nest`.

    Equals `dict(mlx.utils.tree_flatten(tree, prefix, is_leaf))`.
    """
    return _core.flatten(tree, prefix, is_leaf, pairs=False)
