"""Attributes of torch's classes and modules, replaced for a while."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """While open, an attribute is another; then it is again what it was, or that of a base."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def read_through(owner: Any, name: str, read: Callable[[Any, Callable[[], Any], Any], Any]) -> Any:
    """A context in which an attribute of a class's objects is what `read` returns for the object, a
    function that gives the attribute, and the frame that asks."""
    original = next(vars(c)[name] for c in owner.__mro__ if name in vars(c))

    class Reading:
        def __get__(self, held: Any, of: Any = None) -> Any:
            if held is None:
                return original
            return read(held, lambda: original.__get__(held, of), sys._getframe(1))

        def __set__(self, held: Any, value: Any) -> None:
            original.__set__(held, value)

    return replaced(owner, name, Reading())
