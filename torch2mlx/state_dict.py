"""Dotted keys and nested trees, with exactly the meaning that mlx.utils gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch2mlx import _core
from torch2mlx.common.key_errors import FAILURES, about_key
from torch2mlx.errors import ConversionError

_ADVICE = dict.fromkeys(("KEY_HOLES", "LIMIT"), "; lists=False makes dicts of all levels")


def nest(tensors: Mapping[str, Any], lists: bool = True) -> Any:
    """Dotted keys as a tree: {"a.0.b": x} -> {"a": [{"b": x}]}.

    Equals `mlx.utils.tree_unflatten(list(tensors.items()))`; with `lists=False` every level is a
    dict: {"a": {"0": {"b": x}}}. Raises KeyCollisionError for keys that cannot stand together,
    ConversionError for a key that is nested too deeply, or whose number would leave more places
    of lists empty than the keys account for.
    """
    try:
        return _core.nest(tensors if type(tensors) is dict else dict(tensors), lists=lists)
    except FAILURES as error:
        raise about_key(error, _ADVICE) from error


def flatten(
    tree: Any, prefix: str = "", is_leaf: Callable[[Any], bool] | None = None
) -> dict[str, Any]:
    """A tree of dicts, lists and tuples as dotted keys: the inverse of `nest`.

    Equals `dict(mlx.utils.tree_flatten(tree, prefix, is_leaf))`. Raises ConversionError for a tree
    deeper than Python's recursion limit.
    """
    try:
        return _core.flatten(tree, prefix, is_leaf, pairs=False)
    except RecursionError as error:
        raise ConversionError("the tree is nested too deeply, or contains itself") from error
