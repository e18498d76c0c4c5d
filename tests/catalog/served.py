"""Which public functions of torch translate lowers, and which of them port has no way to write."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.export.lower.ops.registry import lowered_names

#: Where functions are, and what their operators' names start with.
GROUPS = {
    "torch": "",
    "torch.Tensor": "",
    "torch.nn.functional": "",
    "torch.linalg": "linalg_",
    "torch.fft": "fft_",
    "torch.special": "special_",
}
#: Methods that port knows by itself: initialisation, casts, what moves memory.
OWN_METHODS = frozenset(("copy_", "fill_", "zero_", "uniform_", "exponential_", "to", "index"))


def _found(group: str) -> object:
    if group == "torch.Tensor":
        return importlib.import_module("torch").Tensor
    return importlib.import_module(group)


def lowered() -> Iterator[tuple[str, str]]:
    """Group and name of each public function whose operator has a lowering."""
    importlib.import_module("torch2mlx.export.lower.lower")
    known = {name.partition("::")[2].partition(".")[0] for name in lowered_names()}
    for group, prefix in GROUPS.items():
        place = _found(group)
        for name in sorted(dir(place)):
            value = getattr(place, name)
            if name.startswith("_") or not callable(value) or inspect.isclass(value):
                continue
            if {prefix + name, prefix + name.rstrip("_")} & known:
                yield group, name


def written(group: str, name: str) -> bool:
    """Whether port has a way to write a function."""
    if group == "torch.Tensor" and name in OWN_METHODS:
        return True
    full = f"{group}.{name}".replace("torch.Tensor.", "torch.")
    entry = find_function(full) or find_function(full.rstrip("_"))
    return entry is not None and entry.written


def refused() -> Iterator[str]:
    """Full names of functions that translate lowers and port has no way to write."""
    return (f"{group}.{name}" for group, name in lowered() if not written(group, name))
