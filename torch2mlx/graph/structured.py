"""Plain dataclasses that a model takes or gives: torch.export knows those that are registered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def dataclasses_known(model: Any, given: Any) -> Iterator[None]:
    """While open, dataclasses in `given`, and in what the model's forward answers, are containers
    to torch.export."""
    from torch.utils import _pytree as pytree

    registered: list[Any] = []

    def register(value: Any) -> None:
        for leaf in pytree.tree_leaves(value):
            kind = type(leaf)
            if dataclasses.is_dataclass(kind) and kind not in pytree.SUPPORTED_NODES:
                _register(kind)
                registered.append(kind)
                register([getattr(leaf, f.name) for f in dataclasses.fields(leaf)])

    register(given)
    handle = model.register_forward_hook(_noting(register))
    try:
        yield
    finally:
        handle.remove()
        for kind in registered:
            pytree._deregister_pytree_node(kind)


def _noting(register: Callable[[Any], None]) -> Any:
    def hook(module: Any, args: Any, result: Any) -> None:
        register(result)

    return hook


def _register(kind: Any) -> None:
    """A dataclass as a dict of its fields."""
    from torch.utils import _pytree as pytree

    names = [field.name for field in dataclasses.fields(kind)]

    def parts(value: Any) -> tuple[list[Any], Any]:
        return [getattr(value, name) for name in names], tuple(names)

    def parts_with_keys(value: Any) -> tuple[list[Any], Any]:
        return [(pytree.GetAttrKey(name), getattr(value, name)) for name in names], tuple(names)

    pytree._private_register_pytree_node(
        kind,
        parts,
        lambda values, context: kind(**dict(zip(context, values, strict=True))),
        serialized_type_name=f"{kind.__module__}.{kind.__qualname__}",
        flatten_with_keys_fn=parts_with_keys,
    )
