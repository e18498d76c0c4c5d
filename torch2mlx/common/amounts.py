"""Numbers of things and sizes, as text for people."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: int, what: str) -> str:
    """A number of things, for people: "1 tensor", "2 tensors"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(names: Iterable[object], shown: int = 5) -> str:
    """The first few names, and how many more there are: "a, b and 3 more"."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(str, names[:shown])) + more


def shown_bytes(number: int) -> str:
    """A size for people, in decimal units: "16 bytes", "5.2 KB", "1,340.0 MB"."""
    if number < 1000:
        return counted(number, "byte")
    return f"{number / 1e3:.1f} KB" if number < 10**5 else f"{number / 1e6:,.1f} MB"
