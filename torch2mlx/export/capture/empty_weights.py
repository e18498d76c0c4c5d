"""Models whose weights have shapes only: larger than memory, on torch's meta device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch2mlx.checkpoint.source.module_tree import describe
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.common import options
from torch2mlx.errors import TranslationError, UnsupportedTensorError
from torch2mlx.types import Checkpoint, Deferred, TensorSource

#: The attribute of tensors that stand in for weights without values.
_STANDS_IN = "_torch2mlx_stands_in"


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules made while this is open have parameters on the meta device, buffers with values.

    A model of any size is built in the memory of its largest single parameter (which is not even
    touched), and `translate` then works from shapes alone. `torch.device("meta")` would leave
    buffers that are no part of a checkpoint, rotary frequencies for one, without values.
    """
    import torch

    kind: Any = torch.nn.Module
    original = kind.register_parameter

    def register(self: Any, name: str, parameter: Any) -> None:
        original(self, name, parameter)
        kept = self._parameters.get(name)
        if kept is not None and not kept.is_meta:
            empty = torch.nn.Parameter(kept.data.to("meta"), requires_grad=kept.requires_grad)
            self._parameters[name] = empty

    kind.register_parameter = register
    try:
        yield
    finally:
        kind.register_parameter = original


def is_empty(model: Any) -> bool:
    """Whether some weights have no values."""
    return any(value.is_meta for value in model.state_dict(keep_vars=True).values() if _has(value))


def stands_in(value: Any) -> bool:
    """Whether a tensor is memory that stands where a weight without values was."""
    return getattr(value, _STANDS_IN, False)


def _has(value: Any) -> bool:
    return hasattr(value, "is_meta")


def opened(model: Any) -> Checkpoint:
    """A model's tensors as a source of weights; those without values have shapes only."""
    if not is_empty(model):
        return open_checkpoint(model)
    tree = describe(model)
    tensors: dict[str, TensorSource] = {}
    for key, value in model.state_dict().items():
        if key in tree.ties:
            continue  # as in a checkpoint that holds it once
        if _has(value) and value.is_meta:
            tensors[key] = Deferred(key, tuple(value.shape), _name(value), _refusal(key))
        elif _has(value):
            tensors[key] = borrow(key, value)
    return Checkpoint(tensors, type(model).__name__, {}, tree=tree)


def _name(value: Any) -> str:
    return str(value.dtype).rsplit(".", 1)[-1]


def _refusal(key: str) -> Any:
    def load() -> Any:
        raise UnsupportedTensorError(
            f"tensor {key!r}: the model was on the meta device, so it has no values; "
            f"{options.streamed()}"
        )

    return load


@contextmanager
def standing_in(model: Any) -> Iterator[None]:
    """While open, memory that nobody touches stands where weights on the meta device were.

    torch.export then sees one device; pages that are never written take no memory.

    Raises TranslationError for buffers without values that no checkpoint has.
    """
    import torch

    kept = model.state_dict(keep_vars=True)
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    made: dict[int, Any] = {}
    for path, module in model.named_modules():
        for name, value in [*module._parameters.items(), *module._buffers.items()]:
            if value is None or not value.is_meta:
                continue
            key = f"{path}.{name}".lstrip(".")
            if name in module._buffers and key not in kept:
                raise TranslationError(
                    f"buffer {key!r} is on the meta device and is in no checkpoint: build the "
                    "model in `with torch2mlx.empty_weights():`, which keeps buffers"
                )
            held = module._parameters if name in module._parameters else module._buffers
            replaced.append((held, name, value))
            if id(value) not in made:
                fresh = torch.empty_like(value, device="cpu")
                plain = name in module._buffers
                made[id(value)] = fresh if plain else torch.nn.Parameter(fresh, value.requires_grad)
                setattr(made[id(value)], _STANDS_IN, True)
            held[name] = made[id(value)]
    try:
        yield
    finally:
        for held, name, value in replaced:
            held[name] = value
