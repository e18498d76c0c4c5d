"""All entries, by name: `find_function("torch.hypot")`."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from torch2mlx.catalog.functions import (
    activations,
    arithmetic,
    conversions,
    creation,
    defined,
    images,
    indexing,
    joining,
    linalg,
    losses,
    neural,
    random,
    reductions,
    shapes,
    sorting,
    sparse,
    special,
    spectra,
    unserved,
    writing,
)
from torch2mlx.catalog.functions.entry import Entry, Form


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


#: Families of functions, a file for each.
FAMILIES = (
    activations,
    arithmetic,
    conversions,
    creation,
    defined,
    images,
    indexing,
    joining,
    linalg,
    losses,
    neural,
    random,
    reductions,
    shapes,
    sorting,
    special,
    sparse,
    spectra,
    unserved,
    writing,
)
#: Entries by full name.
FUNCTIONS = MappingProxyType(gathered(family.ENTRIES for family in FAMILIES))


def find_function(full: str) -> Entry | None:
    """The entry of a function by its full name; None where there is none."""
    return FUNCTIONS.get(full)


def caution(full: str) -> str:
    """What is to be checked where a function is written in MLX; "" mostly."""
    entry = find_function(full)
    return "" if entry is None else entry.caution


def forms(full: str) -> tuple[Form, ...]:
    """The ways to write a function, the first that fits to be taken; none where it has none."""
    entry = find_function(full)
    return () if entry is None else entry.forms
