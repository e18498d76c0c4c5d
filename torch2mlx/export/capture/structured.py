"""Containers that a model takes or gives: the way to each leaf; plain dataclasses, of which
torch.export knows those that are registered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
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


def leaves_with_keys(value: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """All leaves of a structure with the keys that lead to each: those of dicts, fields of
    dataclasses, and places in sequences, named tuples among them."""
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_flatten_with_path(value)[0]
    return [(tuple(_keys(value, path)), leaf) for path, leaf in leaves]


def with_leaves(value: Any, leaves: Iterable[Any]) -> Any:
    """A structure with other leaves, whatever they are."""
    from torch.nn.utils.rnn import PackedSequence, PackedSequence_
    from torch.utils import _pytree as pytree

    def opened(leaf: Any) -> Any:
        return PackedSequence_(*leaf) if isinstance(leaf, PackedSequence) else leaf

    def closed(leaf: Any) -> Any:  # past the constructor, which takes tensors alone
        packed = isinstance(leaf, PackedSequence_)
        return tuple.__new__(PackedSequence, leaf) if packed else leaf

    def mapped(change: Any, kind: Any, whole: Any) -> Any:
        return pytree.tree_map(change, whole, is_leaf=lambda leaf: isinstance(leaf, kind))

    spec = pytree.tree_structure(mapped(opened, PackedSequence, value))
    return mapped(closed, PackedSequence_, pytree.tree_unflatten(list(leaves), spec))


def _keys(value: Any, path: Any) -> Iterator[Any]:
    for key in path:
        found = getattr(key, "key", getattr(key, "idx", getattr(key, "name", None)))
        fields = getattr(value, "_fields", ()) if isinstance(value, tuple) else ()
        value = _below(value, found)
        yield fields.index(found) if found in fields else found


def _below(value: Any, key: Any) -> Any:
    """What is at a key; None where the structure does not tell."""
    if isinstance(key, str) and hasattr(value, key) and not isinstance(value, Mapping):
        return getattr(value, key)
    try:
        return value[key]
    except (TypeError, KeyError, IndexError):
        return None
