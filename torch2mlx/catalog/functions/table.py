"""All entries, by name: `find_function("torch.hypot")`."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from torch2mlx.catalog.functions import (
    arithmetic,
    creation,
    defined,
    joining,
    linalg,
    neural,
    reductions,
    shapes,
    special,
    unserved,
    writing,
)
from torch2mlx.catalog.functions.entry import Entry


def gathered(families: Iterable[Iterable[Iterable[Entry]]]) -> dict[str, Entry]:
    """Entries by full name; ValueError for a name that two of them have."""
    found: dict[str, Entry] = {}
    for family in families:
        for group in family:
            for entry in group:
                full = f"torch.{entry.name}"
                if full in found:
                    raise ValueError(f"{full} has an entry already")
                found[full] = entry
    return found


#: Entries by full name.
FUNCTIONS = MappingProxyType(
    gathered(
        family.ENTRIES
        for family in (
            *(arithmetic, creation, defined, joining, linalg, neural, reductions, shapes, special),
            *(unserved, writing),
        )
    )
)


def find_function(full: str) -> Entry | None:
    """The entry of a function by its full name; None where there is none."""
    return FUNCTIONS.get(full)


def caution(full: str) -> str:
    """What is to be checked where a function is written in MLX; "" mostly."""
    entry = find_function(full)
    return "" if entry is None else entry.caution
