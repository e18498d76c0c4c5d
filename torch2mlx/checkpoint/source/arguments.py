"""Arguments of the verbs, looked at before anything is read: a wrong one is one error, by name."""

from __future__ import annotations

from typing import Any

from torch2mlx.common.options import given, option
from torch2mlx.errors import ConversionError

_MOST_THREADS = 1024


def check_text(name: str, value: Any) -> None:
    """Raises ConversionError for anything but a text or None."""
    if value is not None and not isinstance(value, str):
        raise ConversionError(f"{option(name)} takes a text, not {value!r:.60}")


def of_part(name: str, value: str) -> ConversionError:
    """That an argument that chooses a part of what was saved says nothing of a live module."""
    return ConversionError(
        f"{given(name, value)} chooses within a file or state dict; of a live module pass the part "
        "itself"
    )


def check_function(name: str, value: Any) -> None:
    """Raises ConversionError for anything but what can be called, or None."""
    if value is not None and not callable(value):
        raise ConversionError(f"{option(name)} takes a function, not {value!r:.60}")


def check_threads(value: Any) -> None:
    """Raises ConversionError for anything but a number of threads, 0 for all cores."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 0 <= value <= _MOST_THREADS:
        raise ConversionError(
            f"{given('threads', value)}: 0 takes all cores, and {_MOST_THREADS} are the most"
        )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ConversionError for anything but one of these words."""
    if value not in choices:
        raise ConversionError(f"{option(name)} is one of {', '.join(choices)}, not {value!r:.60}")
