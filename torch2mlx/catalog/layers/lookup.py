"""Finding the entry of a layer: by class, base classes included, nearest first; what users
registered wins over what is built in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as replaced
from typing import Any

from torch2mlx.catalog.layers.entry import (
    BUILTIN,
    Children,
    LayerSpec,
    Make,
    Twin,
    class_name,
    full_name,
    refused,
)
from torch2mlx.catalog.weights.actions import Rule, entry_action
from torch2mlx.catalog.weights.visible import shown
from torch2mlx.errors import Code, Unsupported
from torch2mlx.types import ModuleRecord

_USER: dict[str, LayerSpec] = {}


def find_twin(module: Any) -> Twin | Unsupported | None:
    """What stands for a live torch module; None when nothing is known of its classes.

    A subclass with a forward of its own computes something else, so it has none of its base's.
    """
    for cls in type(module).__mro__:
        name = class_name(cls)
        spec = next((s[name] for s in (_USER, BUILTIN) if name in s and s[name].make), None)
        if spec is None or spec.make is None:
            continue
        if type(module).forward is not getattr(cls, "forward", None):
            return refused(module, "has a forward of its own", Code.OWN_FORWARD)
        found = spec.make(module)
        if isinstance(found, Twin) and spec.itemwise:
            return replaced(found, itemwise=True)
        return found
    return None


def twin_names() -> tuple[str, ...]:
    """Names of the torch.nn classes that something can stand for, sorted."""
    made = (name for name, spec in BUILTIN.items() if spec.make is not None)
    return tuple(sorted(name.removeprefix("torch.nn.") for name in made))


def child_names(spec: LayerSpec | None, record: ModuleRecord) -> Mapping[str, str]:
    """Names of a module's children that change, old to new.

    Children called by numbers go into a list called layers: MLX reads numbers in keys as places in
    lists, and a module or a dict that has them as names cannot load weights. Names that start with
    an underscore, which MLX hides, lose it.
    """
    if spec is not None and (spec.children or _is_list(spec, record) or spec.transparent):
        return spec.child_names(record)
    if record.options.get("from_keys"):  # a module that nothing is known of
        return {}
    numbered = [name for name in record.children if name.isdigit()]
    others = [name for name in record.children if not name.isdigit()]
    hidden = shown(others, (*record.children, *record.tensors))
    return {**{name: f"layers.{i}" for i, name in enumerate(numbered)}, **hidden}


def _is_list(spec: LayerSpec, record: ModuleRecord) -> bool:
    """Whether a module becomes a list: one that is called, or holds more than items, does not."""
    items_alone = not record.tensors and all(name.isdigit() for name in record.children)
    parameters = spec.torch == "torch.nn.ParameterList"
    plain = items_alone and not record.options.get("own_forward")
    return spec.mlx == "builtins.list" and (parameters or plain)


def register(
    layer: type | str,
    *,
    mlx: str | type | None = None,
    weights: Rule | None = None,
    children: Children | None = None,
    make: Make | None = None,
    replace: bool = False,
) -> LayerSpec:
    """Teaches a layer class; subclasses of it are covered too.

    `layer`: the torch class, or its full name (`"package.module.Class"`; a bare name means
    torch.nn). `mlx`: the MLX class that takes its place. `weights`: tensor name -> layout
    (`"o i k -> o k i"`), new name, tuple of names (split dimension 0) or `Drop(reason)`, or a
    function of (record, shapes) that yields actions; tensors it does not mention are copied.
    `children`: renamed sub-modules, old to new. `make`: a function of the live layer that returns
    the `Twin` to build and to translate it to; without one, `convert` alone knows the layer.

    Returns the spec. Raises ValueError when the class is registered already and `replace` is
    false, TypeError for a rule entry that means nothing.
    """
    name = full_name(layer if isinstance(layer, str) else class_name(layer))
    if name in _USER and not replace:
        raise ValueError(f"{name} is registered already; pass replace=True to change it")
    if weights is not None and not callable(weights):
        for entry in weights.values():
            entry_action(entry)
    path = class_name(mlx) if isinstance(mlx, type) else mlx
    rule = weights if weights is not None else {}
    _USER[name] = LayerSpec(name, path, rule, children or {}, make=make, native=path or name)
    return _USER[name]


def unregister(layer: type | str) -> None:
    """Forgets what `register` was told. Raises KeyError when there is nothing to forget."""
    del _USER[full_name(layer if isinstance(layer, str) else class_name(layer))]


def lookup(layer: type | str | tuple[str, ...]) -> LayerSpec | None:
    """The spec of a class, of a full or torch.nn name, or of a tuple of names, nearest first."""
    if isinstance(layer, type):
        names: tuple[str, ...] = tuple(class_name(cls) for cls in layer.__mro__)
    else:
        names = (layer,) if isinstance(layer, str) else layer
    for specs in (_USER, BUILTIN):
        for name in names:
            if full_name(name) in specs:
                return specs[full_name(name)]
    return None


def is_builtin(spec: LayerSpec) -> bool:
    """Whether a spec is the package's own."""
    return BUILTIN.get(spec.torch) is spec


def by_short_name(name: str) -> LayerSpec | None:
    """The spec of the one registered class whose full name ends in this one: "Conv1D"."""
    found = [n for n in registered_names() if n.rpartition(".")[2] == name]
    return lookup(found[0]) if len(found) == 1 else None


def registered_names() -> tuple[str, ...]:
    """Full names of all registered classes, sorted."""
    return tuple(sorted({*BUILTIN, *_USER}))
