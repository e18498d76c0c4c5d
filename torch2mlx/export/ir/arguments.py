"""Arguments of calls: containers and slices of nodes, numbers and names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def leaves_of(kind: type[T], value: Any) -> Iterator[T]:
    """Objects of one type in an argument, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves_of(kind, item)
    elif isinstance(value, slice):
        yield from leaves_of(kind, (value.start, value.stop, value.step))
    elif isinstance(value, Mapping):
        yield from leaves_of(kind, tuple(value.values()))
