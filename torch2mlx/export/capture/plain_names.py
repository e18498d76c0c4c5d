"""Python's own functions that look at the class of a value, in the files of users while a model is
traced: `type` and `isinstance` would tell that a length is torch's number.

They are exchanged as names of modules. Where a length's `__class__` is asked for, which is what
`isinstance(n, int)` does, the length answers for itself (see plain_answers).
"""

from __future__ import annotations

import builtins
import functools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch2mlx.export.capture.everywhere import is_users

#: Files that ask for the class of something.
_ASKS = re.compile(r"(?<![\w.])type\(")
#: Uses of the name `type` for which Python's own has to be there: the base of a class of classes,
#: its attributes, and what is compared by identity.
_NEEDS = re.compile(
    r"(?<![\w.])type\.|\bis\s+(?:not\s+)?type\b(?!\()|class\s+\w+\([^)]*(?<![\w.])type\s*[,)]"
)
#: Files that ask for an attribute, which may be one that torch's numbers alone have.
_LOOKS = re.compile(r"(?<![\w.])(hasattr|getattr)\(")
#: Files that ask whether a value is a number of torch's, which it never is outside of a trace.
_KNOWS = re.compile(r"\bSym(?:Int|Float|Bool)\b")


class _Type(type):
    """The class of what stands for `type`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs:
            return plain_class(args[0]) or builtins.type(args[0])
        return builtins.type(*args, **kwargs)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, builtins.type)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, builtins.type)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is builtins.type

    def __hash__(cls) -> int:
        return hash(builtins.type)

    def __getitem__(cls, kind: Any) -> Any:
        return builtins.type[kind]


_TYPE = _Type("type", (), {})


def _isinstance(value: Any, kinds: Any) -> bool:
    kind = plain_class(value)
    return isinstance(value, kinds) if kind is None else issubclass(kind, kinds)


def _hasattr(value: Any, name: str) -> bool:
    return hasattr(plain_class(value) or value, name)


def _getattr(value: Any, name: str, *default: Any) -> Any:
    kind = plain_class(value)
    if kind is not None and not hasattr(kind, name):
        return getattr(kind(), name, *default)  # as Python's own number has it
    return getattr(value, name, *default)


def plain_class(value: Any) -> type | None:
    """Python's class of a number of torch's; None of anything else."""
    kind = type(value)
    return next((_plain()[own] for own in kind.__mro__ if own in _plain()), None)


_STAND_INS = (
    ("type", _TYPE),
    ("isinstance", _isinstance),
    ("hasattr", _hasattr),
    ("getattr", _getattr),
)


@functools.cache
def _plain() -> dict[type, type]:
    import torch

    return {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}


@contextmanager
def plain_names() -> Iterator[None]:
    """While open, these functions see numbers of Python where lengths are, in users' files."""
    changed = [
        (names, name, value)
        for module in tuple(sys.modules.values())
        for names, asked in [_asked_in(module)]
        for name, value in _STAND_INS
        if name in asked and name not in names
    ]
    for names, name, value in changed:
        names[name] = value
    try:
        yield
    finally:
        for names, name, _ in changed:
            names.pop(name, None)


def _asked_in(module: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The names of a module, and which of the functions its file uses."""
    names = getattr(module, "__dict__", None) or {}
    name, file = str(names.get("__name__")), names.get("__file__")
    if not is_users(name):
        return names, frozenset()
    if file is None and name == "__main__":
        return names, frozenset({"type", "hasattr", "getattr"})  # what is typed in has no file
    known = isinstance(file, str) and file.endswith(".py")
    return names, _asked_by(file) if known else frozenset()


@functools.lru_cache(maxsize=8192)
def _asked_by(file: str) -> frozenset[str]:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    asks = _ASKS.search(text) and not _NEEDS.search(text)
    looks = ({"isinstance"} if _KNOWS.search(text) else set()) | set(_LOOKS.findall(text))
    return frozenset({"type"} if asks else ()) | looks
