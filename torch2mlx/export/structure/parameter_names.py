"""Names of constructor arguments: those that the torch class has for the same values."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from torch2mlx.export.ir.name_allocator import hides


def torch_name(modules: Sequence[Any], values: Sequence[Any]) -> str | None:
    """The attribute of some modules of one class whose values are these, one a module; the first
    argument of their constructor that is such an attribute, where there are several."""
    for name in _candidates(modules[0]):
        held = (getattr(module, name, None) for module in modules)
        if all(map(_same, held, values)):
            return name.strip("_")
    return None


def _candidates(module: Any) -> Iterator[str]:
    try:
        asked = list(inspect.signature(type(module).__init__).parameters)
    except (TypeError, ValueError):
        asked = []
    held = [name for name, value in vars(module).items() if _plain(value)]
    yield from (name for name in asked if name in held)
    yield from (name for name in held if name not in asked and name != "training")


def _plain(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) and value else (value,)
    return all(isinstance(number, (bool, int, float)) for number in numbers)


def _same(held: Any, value: Any) -> bool:
    """Whether an attribute is a value; one number may stand for a tuple of it."""
    if isinstance(value, tuple) and not isinstance(held, tuple):
        return bool(value) and all(_same(held, item) for item in value)
    return type(held) is type(value) and bool(held == value)


def free_name(wanted: str, taken: Collection[str]) -> str:
    """A name for an argument that no other has, and that hides nothing."""
    base = re.sub(r"\W", "_", wanted)
    base = f"x_{base}" if base[0].isdigit() else base
    base = f"{base}_" if hides(base) or keyword.iskeyword(base) else base
    name, count = base, 2
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    return name
