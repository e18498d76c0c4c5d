"""torch.linspace while a model is traced, with as many steps as an input is long: torch's own
operator takes plain numbers alone, and would fix the length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch2mlx.export.capture.everywhere import replaced_everywhere
from torch2mlx.export.capture.kept_lengths import is_length

NAMESPACE = "torch2mlx_evenly"


@contextmanager
def evenly_as_operator() -> Iterator[None]:
    """While open, torch.linspace of a length is an operator that leaves it free."""
    import torch
    from torch.utils._device import _device_constructors

    _define()
    _device_constructors()  # kept by torch from its first use on: it shall know the original
    with replaced_everywhere([(torch, "linspace", _spaced(torch.linspace))]):
        yield


def _spaced(original: Any) -> Any:
    def linspace(start: Any, end: Any, steps: Any, **options: Any) -> Any:
        import torch

        if not is_length(steps) or options.get("out") is not None:
            return original(start, end, steps, **options)
        dtype = options.get("dtype") or torch.get_default_dtype()
        line = getattr(torch.ops, NAMESPACE).line
        between = any(isinstance(n, torch.Tensor) for n in (start, end))
        start, end = (n.detach() if isinstance(n, torch.Tensor) else n for n in (start, end))
        found = _between(start, end, steps) if between else line(start, end, steps, dtype)
        return found.to(dtype).requires_grad_(bool(options.get("requires_grad")))

    return linspace


def _between(start: Any, end: Any, steps: Any) -> Any:
    """The same between tensors, from both ends to the middle."""
    import torch

    places = torch.arange(steps)
    step = (end - start) / torch.sym_max(steps - 1, 1)
    rising, falling = start + step * places, end - step * (steps - 1 - places)
    return torch.where(places < torch.sym_max(steps // 2, 1), rising, falling)


@cache
def _define() -> Any:
    """The operator; what is returned keeps it alive."""
    import torch

    library = torch.library.Library(NAMESPACE, "DEF")
    original = torch.linspace
    library.define("line(Scalar start, Scalar end, SymInt steps, ScalarType dtype) -> Tensor")

    def line(start: Any, end: Any, steps: int, dtype: Any) -> Any:
        return original(start, end, steps, dtype=dtype)

    def shape(start: Any, end: Any, steps: Any, dtype: Any) -> Any:
        return torch.empty(steps, dtype=dtype)

    library.impl("line", line, "CompositeExplicitAutograd")

    torch.library.register_fake(f"{NAMESPACE}::line", shape, lib=library)
    return library
