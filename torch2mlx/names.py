"""Failures of the core over names, as errors of the project that say which name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch2mlx import _core
from torch2mlx.errors import ConversionError, KeyCollisionError

_ADVICE = dict.fromkeys(("KEY_HOLES", "LIMIT"), "; lists=False makes dicts of all levels")


@contextmanager
def naming_keys(advice: bool = False) -> Iterator[None]:
    """Raises KeyCollisionError or ConversionError for what the core says of a key.

    `advice`: whether `nest` is asked, which can do without lists.
    """
    try:
        yield
    except _core.CoreError as error:
        status, message, _, name = error.args
        kind = KeyCollisionError if status == "KEY_COLLISION" else ConversionError
        way_out = _ADVICE.get(status, "") if advice else ""
        raise kind(f"key {name!r}: {message}{way_out}") from error
    except UnicodeEncodeError as error:
        raise ConversionError(f"key {error.object!r}: is not valid text") from error
