"""A model at some sizes, and which settings it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.sizes.fields import Recipe, Way

Values = Mapping[Way, Any]


@dataclass(frozen=True)
class Sized:
    """A model at some sizes, with inputs that it takes."""

    values: Values
    model: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def read_settings(recipe: Recipe, at: Sized) -> set[str]:
    """Names of the settings that are read while a model is made and called."""
    import torch

    found: set[str] = set()
    given = recipe.varied(at.values)
    with ExitStack() as stack, torch.random.fork_rng(), torch.no_grad():
        for name in recipe.settings:
            stack.enter_context(_watched(given[name], found))
        recipe.kind(**given).train(recipe.training)(*at.args, **at.kwargs)
    return found


@contextmanager
def _watched(owner: Any, found: set[str]) -> Iterator[None]:
    """Notes the attributes of an object that are read, by the names that it holds them by."""
    kind = type(owner)
    #: transformers: other names of attributes, which are read as the first.
    aliases = getattr(kind, "attribute_map", {})

    def read(self: Any, name: str) -> Any:
        found.update((name, aliases.get(name, name)))
        return kind.__getattribute__(self, name)  # type: ignore[call-arg]

    watching = type(kind.__name__, (kind,), {"__getattribute__": read})
    object.__setattr__(owner, "__class__", watching)
    try:
        yield
    finally:
        object.__setattr__(owner, "__class__", kind)
