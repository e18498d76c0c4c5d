"""Paths that callers give, looked at before anything else is done with them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from torch2mlx.errors import CheckpointError, Torch2MLXError

_REASONS = {
    errno.ENAMETOOLONG: "the name is longer than the file system takes",
    errno.ELOOP: "its links go round in a circle",
    errno.EACCES: "a folder on the way to it may not be entered",
}
_SHOWN = 80


def checked(path: Any, name: str, error: type[Torch2MLXError] = CheckpointError) -> Path:
    """A path as a Path. Raises `error` for what is none, or none that a system can have.

    `name` is what the caller calls it: "source", "out".
    """
    try:
        text = os.fspath(path)
    except TypeError:
        raise error(f"{name}: takes a path, not {path!r:.{_SHOWN}}") from None
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if "\0" in text:
        raise error(f"{name} {text[:_SHOWN]!r}: a path has no NUL in it")
    if not _encodable(text):
        raise error(f"{name} {text[:_SHOWN]!r}: is no valid text, so no file has this name")
    if not text:
        raise error(f"{name}: takes a path, not an empty text")
    try:
        os.stat(text)
    except OSError as failure:
        if failure.errno in _REASONS:
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            raise error(f"{shown}: {_REASONS[failure.errno]}") from None
    return Path(text)


def _encodable(text: str) -> bool:
    """Whether a system can have such a name: half a surrogate has no bytes."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def described(error: OSError) -> str:
    """An error of the system as a sentence: which path, what is wrong."""
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes))
    ]
    reason = error.strerror or str(error) or type(error).__name__
    return f"{' -> '.join(names)}: {reason}" if names else reason
