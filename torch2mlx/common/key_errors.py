"""Failures of the core over names, as errors of the project that say which name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch2mlx import _core
from torch2mlx.errors import ConversionError, KeyCollisionError

#: What the core raises over names.
FAILURES = (_core.CoreError, UnicodeEncodeError)


def about_key(error: Exception, advice: dict[str, str] | None = None) -> ConversionError:
    """What one of `FAILURES` says of a key; `advice`: status -> a way out."""
    if isinstance(error, UnicodeEncodeError):
        return ConversionError(f"key {error.object!r}: is not valid text")
    status, message, _, name = error.args
    kind = KeyCollisionError if status == "KEY_COLLISION" else ConversionError
    return kind(f"key {name!r}: {message}{(advice or {}).get(status, '')}")


@contextmanager
def naming_keys() -> Iterator[None]:
    """Raises KeyCollisionError or ConversionError for what the core says of a key."""
    try:
        yield
    except FAILURES as error:
        raise about_key(error) from error
