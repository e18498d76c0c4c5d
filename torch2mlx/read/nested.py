"""Finding the state dict inside what people save: {"state_dict": ..., "optimizer": ...}."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch2mlx import _core
from torch2mlx.errors import AmbiguousCheckpointError
from torch2mlx.options import given
from torch2mlx.read.tensors import is_array

MAX_DEPTH = 16
ROOT = "."


def _is_tensor(value: Any) -> bool:
    return is_array(value) or (isinstance(value, _core.Foreign) and value.is_tensor)


def _is_optimizer(tree: Mapping[Any, Any]) -> bool:
    return "param_groups" in tree and "state" in tree


def _candidates(tree: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(tree, Mapping) or depth > MAX_DEPTH or _is_optimizer(tree):
        return
    inner = [
        found
        for name, value in tree.items()
        if isinstance(name, str) and not name.endswith("_extra_state")
        for found in _candidates(value, f"{path}.{name}" if path else name, depth + 1)
    ]
    own = [v for k, v in tree.items() if isinstance(k, str) and _is_tensor(v)]
    # beside whole state dicts, small tensors are counters and random states
    if own and (not inner or any(len(getattr(v, "shape", None) or ()) > 1 for v in own)):
        yield path or ROOT, tree
    yield from inner


def find_state_dict(tree: Any, key: str | None, origin: str) -> tuple[str, Mapping[str, Any]]:
    """The state dict in a saved object, and its dotted path (`"."`: the object itself).

    Raises AmbiguousCheckpointError when there is none, or several and `key` picks none.
    """
    found = dict(_candidates(tree, "", 0))
    choices = tuple(found)
    if key is not None:
        if key not in found:
            listed = ", ".join(map(repr, choices)) or "no state dict at all"
            raise AmbiguousCheckpointError(
                f"{origin}: no state dict at {key!r}; it has {listed}", choices
            )
        return key, found[key]
    if len(found) == 1:
        return next(iter(found.items()))
    if not found:
        what = f"a {type(tree).__name__}" if not isinstance(tree, Mapping) else "a dict"
        raise AmbiguousCheckpointError(f"{origin}: holds no state dict, but {what} without tensors")
    listed = ", ".join(given("key", choice) for choice in choices)
    raise AmbiguousCheckpointError(
        f"{origin}: holds several state dicts; pass one of {listed}", choices
    )
