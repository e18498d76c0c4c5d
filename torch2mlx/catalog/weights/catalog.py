"""Which torch layer is which MLX layer, and what happens to its weights.

Layers are found by class, base classes included, nearest first; what users registered wins over
what is built in. The rows themselves are data, in `catalog/weights/table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch2mlx.catalog.weights import table
from torch2mlx.catalog.weights.actions import Rule, entry_action
from torch2mlx.catalog.weights.visible import shown
from torch2mlx.types import ModuleRecord

Children = Mapping[str, str] | Callable[[ModuleRecord], Mapping[str, str]]


@dataclass(frozen=True)
class LayerSpec:
    """What is known of one torch layer class.

    `mlx` is the full name of the MLX class or function that takes its place; `weights` the rule
    of its tensors; `children` renames its sub-modules; a `container` is not counted as a layer; a
    `transparent` one is a wrapper: the name of the sub-module it stands for.
    """

    torch: str
    mlx: str | None = None
    weights: Rule = field(default_factory=dict)
    children: Children = field(default_factory=dict)
    container: bool = False
    transparent: str | None = None

    def child_names(self, record: ModuleRecord) -> Mapping[str, str]:
        """Names of sub-modules that change, old to new."""
        return self.children(record) if callable(self.children) else self.children


def child_names(spec: LayerSpec | None, record: ModuleRecord) -> Mapping[str, str]:
    """Names of a module's children that change, old to new.

    Children called by numbers go into a list called layers: MLX reads numbers in keys as places in
    lists, and a module or a dict that has them as names cannot load weights. Names that start with
    an underscore, which MLX hides, lose it.
    """
    if spec is not None and (spec.children or spec.mlx == "list" or spec.transparent):
        return spec.child_names(record)
    if record.options.get("from_keys"):  # a module that nothing is known of
        return {}
    numbered = [name for name in record.children if name.isdigit()]
    others = [name for name in record.children if not name.isdigit()]
    hidden = shown(others, (*record.children, *record.tensors))
    return {**{name: f"layers.{i}" for i, name in enumerate(numbered)}, **hidden}


def _full(name: str) -> str:
    return name if "." in name else f"torch.nn.{name}"


def _builtin() -> dict[str, LayerSpec]:
    specs = {_full(name): LayerSpec(_full(name), **row) for name, row in table.ROWS}
    counter = specs["torch.nn.modules.batchnorm._NormBase"].weights
    for name in [n for n in specs if n.rsplit(".")[-1].startswith(("BatchNorm", "InstanceNorm"))]:
        specs[name] = replace(specs[name], weights=counter)
    for rows, prefix in (
        (table.WEIGHTLESS, "mlx.nn."),
        (table.WEIGHTLESS_CALLS, ""),
        (table.LOSSES, "mlx.nn.losses."),
    ):
        for name, twin in rows.items():
            specs[_full(name)] = LayerSpec(_full(name), prefix + twin)
    return specs


_BUILTIN = _builtin()
_USER: dict[str, LayerSpec] = {}


def class_name(cls: type) -> str:
    """The name a class is registered under: the public one for what torch.nn exports."""
    module = cls.__module__
    if module.startswith("torch.nn.modules.") and not cls.__name__.startswith("_"):
        module = "torch.nn"
    return f"{module}.{cls.__qualname__}"


def register(
    layer: type | str,
    *,
    mlx: str | type | None = None,
    weights: Rule | None = None,
    children: Children | None = None,
    replace: bool = False,
) -> LayerSpec:
    """Teaches `convert` a layer class; subclasses of it are covered too.

    `layer`: the torch class, or its full name (`"package.module.Class"`; a bare name means
    torch.nn). `mlx`: the MLX class that takes its place. `weights`: tensor name -> layout
    (`"o i k -> o k i"`), new name, tuple of names (split dimension 0) or `Drop(reason)`, or a
    function of (record, shapes) that yields actions; tensors it does not mention are copied.
    `children`: renamed sub-modules, old to new.

    Returns the spec. Raises ValueError when the class is registered already and `replace` is
    false, TypeError for a rule entry that means nothing.
    """
    name = layer if isinstance(layer, str) else class_name(layer)
    name = _full(name)
    if name in _USER and not replace:
        raise ValueError(f"{name} is registered already; pass replace=True to change it")
    if weights is not None and not callable(weights):
        for entry in weights.values():
            entry_action(entry)
    twin = class_name(mlx) if isinstance(mlx, type) else mlx
    spec = LayerSpec(name, twin, weights if weights is not None else {}, children or {})
    _USER[name] = spec
    return spec


def unregister(layer: type | str) -> None:
    """Forgets what `register` was told. Raises KeyError when there is nothing to forget."""
    del _USER[_full(layer if isinstance(layer, str) else class_name(layer))]


def lookup(layer: type | str | tuple[str, ...]) -> LayerSpec | None:
    """The spec of a class, of a full or torch.nn name, or of a tuple of names, nearest first."""
    if isinstance(layer, type):
        names: tuple[str, ...] = tuple(class_name(cls) for cls in layer.__mro__)
    else:
        names = (layer,) if isinstance(layer, str) else layer
    for specs in (_USER, _BUILTIN):
        for name in names:
            if _full(name) in specs:
                return specs[_full(name)]
    return None


def is_builtin(spec: LayerSpec) -> bool:
    """Whether a spec is the package's own."""
    return _BUILTIN.get(spec.torch) is spec


def by_short_name(name: str) -> LayerSpec | None:
    """The spec of the one registered class whose full name ends in this one: "Conv1D"."""
    found = [n for n in registered_names() if n.rpartition(".")[2] == name]
    return lookup(found[0]) if len(found) == 1 else None


def registered_names() -> tuple[str, ...]:
    """Full names of all registered classes, sorted."""
    return tuple(sorted({*_BUILTIN, *_USER}))
