"""Which public functions of torch translate lowers, and which of them port has no way to write."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

from torch2mlx.catalog.functions.forms import CHANNELS_FIRST, forms
from torch2mlx.catalog.op_mapping import lookup_op
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
    base = name.rstrip("_")
    if group == "torch.Tensor":
        return name in OWN_METHODS or bool(forms("torch", base))
    if group == "torch":
        return bool(forms("torch", base))
    short = group.removeprefix("torch.")
    row = lookup_op(f"{group}.{name}")
    if group == "torch.nn.functional":
        kit = row is not None and row.status == "kit"
        return name in CHANNELS_FIRST or kit or bool(forms(group, base) or forms("torch", base))
    direct = row is not None and row.status == "direct" and row.mlx.endswith(name)
    return direct or bool(forms("torch", f"{short}.{name}"))


def refused() -> Iterator[str]:
    """Full names of functions that translate lowers and port has no way to write."""
    return (f"{group}.{name}" for group, name in lowered() if not written(group, name))
