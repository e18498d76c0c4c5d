"""What a family file says of a layer: a Twin, or Unsupported with the reason.

A function takes the live torch module (any object with its attributes) and reads its options;
`@twin("Conv1d", ...)` says which classes of torch.nn it speaks for. Nothing is built here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch2mlx.catalog.weights.catalog import class_name
from torch2mlx.errors import Code, Unsupported

Layout = Literal["same", "channels_last"]


@dataclass(frozen=True)
class Twin:
    """An MLX module to make: `path` is a dotted name, `arguments` its keywords.

    A path that names a function is wrapped in `torch2mlx.kit.Function` with these options.
    `layout`: whether inputs and outputs are laid out as torch's, or with channels last. `children`:
    arguments whose value is a torch module (or a list or dict of them), built first.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout = "same"
    children: Mapping[str, Any] = field(default_factory=dict)


def refused(module: Any, detail: str, code: Code = Code.ARGUMENTS) -> Unsupported:
    """That MLX has nothing for a layer, by default with the options that it has, and why."""
    return Unsupported(code, type(module).__name__, detail)


TwinFunction = Callable[[Any], Twin | Unsupported]
_TWINS: dict[str, TwinFunction] = {}


def twin(*names: str) -> Callable[[TwinFunction], TwinFunction]:
    """Registers a function for classes of torch.nn. Raises ValueError for a second one."""

    def register(function: TwinFunction) -> TwinFunction:
        for name in names:
            if name in _TWINS:
                raise ValueError(f"{name} has a twin already")
            _TWINS[name] = function
        return function

    return register


def find_twin(module: Any) -> Twin | Unsupported | None:
    """The twin of a live torch module; None when nothing is known of its classes.

    A subclass with a forward of its own computes something else, so it has none of its base's.
    """
    for cls in type(module).__mro__:
        name = class_name(cls)
        if name.startswith("torch.nn.") and name.removeprefix("torch.nn.") in _TWINS:
            if type(module).forward is not getattr(cls, "forward", None):
                return refused(module, "has a forward of its own", Code.OWN_FORWARD)
            return _TWINS[name.removeprefix("torch.nn.")](module)
    return None


def twin_names() -> tuple[str, ...]:
    """Names of the torch.nn classes that a family speaks for, sorted."""
    return tuple(sorted(_TWINS))


def taken(module: Any, names: Mapping[str, str] | tuple[str, ...]) -> dict[str, Any]:
    """Keyword arguments from attributes: {argument: attribute}, or equal names."""
    pairs = names.items() if isinstance(names, Mapping) else ((name, name) for name in names)
    return {argument: getattr(module, attribute) for argument, attribute in pairs}


def rank_of(module: Any) -> int:
    """Spatial dimensions of a layer, by the class of torch.nn that it is."""
    for cls in type(module).__mro__:
        if cls.__name__[-1:] == "d" and cls.__name__[-2:-1].isdigit():
            return int(cls.__name__[-2])
    raise ValueError(f"{type(module).__name__} tells no number of dimensions")
