"""Tensors that have a gradient and are no parameters of their module: torch.export makes constants
of them, and so would the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def loose(model: Any, value: Any) -> str:
    """What a constant of an exported program is, where a gradient goes to it: the path of a list's
    item or an attribute of some module; "" for others."""
    if value.requires_grad and not value.is_leaf:
        return next((p for p, v in _held(model) if v is value), "a tensor")
    found = (p for p, v in _held(model) if v.requires_grad and _same(v, value))
    return next(found, "")


def _same(first: Any, second: Any) -> bool:
    return first is second or (
        first.shape == second.shape and first.numel() > 0 and first.data_ptr() == second.data_ptr()
    )


def _held(model: Any) -> Iterator[tuple[str, Any]]:
    """Tensors among the attributes of modules, in lists and dicts too, by path."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_"):
                yield from _inside(f"{path}.{name}".lstrip("."), value)


def _inside(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "requires_grad") and hasattr(value, "data_ptr"):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _inside(f"{path}[{i}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _inside(f"{path}[{key!r}]", item)
