"""Which values of a saved object hold weights: every container is looked at once.

Containers may share children, so the paths through an object can be far more than its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.source.tensors import is_array

_PLAIN = frozenset({int, float, str, bool, type(None), bytes})
#: Types of values that hold nothing, or are tensors.
LEAVES = _PLAIN | {_core.Tensor}
#: Objects of torch that hold weights and are no tensors.
_HOLDERS = ("ScriptObject", "UntypedStorage", "TypedStorage")


def describe(value: _core.Foreign) -> str:
    """What an opaque value is: its class, or what it is called already."""
    return value.name if value.name.startswith(("a ", "an ")) else f"a pickled {value.name} object"


def is_weight(value: Any) -> bool:
    """Whether a value is a tensor, or something opaque with tensors in it."""
    if type(value) in _PLAIN:
        return False
    if isinstance(value, _core.Foreign):
        return value.is_tensor or value.holds_data
    return is_array(value) or type(value).__name__ in _HOLDERS


@lru_cache(maxsize=1024)
def _contains(kind: type) -> bool:
    return (
        kind not in LEAVES
        and isinstance(kind, type)
        and issubclass(kind, (dict, list, tuple, Mapping))
    )


def is_container(value: object) -> bool:
    """Whether a value is a dict, list or tuple."""
    return _contains(type(value))  # type: ignore[arg-type] # classes are hashable


def children(value: Any) -> Iterator[Any]:
    """What a container holds."""
    return iter(value.values() if isinstance(value, Mapping) else value)


def is_optimizer(value: Any) -> bool:
    """Whether this is the state of an optimizer, whose tensors are no weights."""
    return isinstance(value, Mapping) and "param_groups" in value and "state" in value


class Holdings:
    """Remembers which containers hold weights, and how large values are when written out."""

    def __init__(self) -> None:
        self._holds: dict[int, bool] = {}
        self._sizes: dict[int, int] = {}
        self._kept: list[Any] = []  # an id is one object's as long as that lives

    def holds(self, value: Any) -> bool:
        """Whether a value is a weight, or a container that one can be reached from."""
        if not is_container(value):
            return is_weight(value)
        if id(value) not in self._holds:
            self._search(value)
        return self._holds[id(value)]

    def _search(self, root: Any) -> None:
        self._holds[id(root)] = False
        stack = [(root, children(root))]
        while stack:
            value, left = stack[-1]
            for child in left:
                if is_container(child) and id(child) not in self._holds:
                    self._holds[id(child)] = False  # and while it is searched
                    stack.append((child, children(child)))
                    break
                if self._holds[id(child)] if is_container(child) else is_weight(child):
                    self._holds[id(value)] = True
            else:
                stack.pop()
                self._kept.append(value)
                if stack and self._holds[id(value)]:
                    self._holds[id(stack[-1][0])] = True

    def size(self, value: Any, limit: int) -> int:
        """About how many characters a value has in JSON, at most `limit` + 1.

        A child that is shared counts as often as it would be written.
        """
        if not is_container(value):
            return _length(value)
        stack = [(value, self._open(value))] if id(value) not in self._sizes else []
        while stack:
            current, left = stack[-1]
            for child in left:
                if is_container(child) and id(child) not in self._sizes:
                    stack.append((child, self._open(child)))
                    break
                added = self._sizes[id(child)] if is_container(child) else _length(child)
                self._sizes[id(current)] = min(self._sizes[id(current)] + added, limit + 1)
            else:
                stack.pop()
                if stack:
                    parent = id(stack[-1][0])
                    self._sizes[parent] = min(
                        self._sizes[parent] + self._sizes[id(current)], limit + 1
                    )
        return self._sizes[id(value)]

    def _open(self, value: Any) -> Iterator[Any]:
        self._kept.append(value)
        keys = value if isinstance(value, Mapping) else ()
        self._sizes[id(value)] = 2 + sum(map(_length, keys))
        return children(value)


def _length(value: Any) -> int:
    return len(value) + 4 if isinstance(value, str) else 24
