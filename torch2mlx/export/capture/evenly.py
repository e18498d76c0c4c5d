"""torch.linspace while a model is traced, with as many steps as an input is long: torch's own
operator takes plain numbers alone, and would fix the length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch2mlx.export.capture.kept_lengths import is_length
from torch2mlx.export.capture.patched import replaced

NAMESPACE = "torch2mlx_evenly"


@contextmanager
def evenly_as_operator() -> Iterator[None]:
    """While open, torch.linspace of a length is an operator that leaves it free."""
    import torch
    from torch.utils._device import _device_constructors

    _define()
    _device_constructors()  # kept by torch from its first use on: it shall know the original
    with replaced(torch, "linspace", _spaced(torch.linspace)):
        yield


def _spaced(original: Any) -> Any:
    def linspace(start: Any, end: Any, steps: Any, **options: Any) -> Any:
        import torch

        if not is_length(steps) or options.get("out") is not None:
            return original(start, end, steps, **options)
        line = getattr(torch.ops, NAMESPACE).line
        plain = all(isinstance(number, (int, float)) for number in (start, end))
        found = line(float(start), float(end), steps) if plain else line(0.0, 1.0, steps)
        found = found if plain else found * (end - start) + start
        dtype = options.get("dtype") or torch.get_default_dtype()
        return found.to(dtype).requires_grad_(bool(options.get("requires_grad")))

    return linspace


@cache
def _define() -> Any:
    """The operator; what is returned keeps it alive."""
    import torch

    library = torch.library.Library(NAMESPACE, "DEF")
    original = torch.linspace
    library.define("line(float start, float end, SymInt steps) -> Tensor")
    library.impl("line", original, "CompositeExplicitAutograd")

    def shape(start: float, end: float, steps: Any) -> Any:
        return torch.empty(steps, dtype=torch.float32)

    torch.library.register_fake(f"{NAMESPACE}::line", shape, lib=library)
    return library
