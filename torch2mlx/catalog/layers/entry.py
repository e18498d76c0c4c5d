"""One entry for each layer of torch: `layer(names, make, ...)` in the file of its family.

`translate`, `build` and `analyze` ask an entry's `make` for what stands for a live layer; `convert`
asks for the rule of its tensors, `port` for the constructor that a script gets and for what it does
with the layout of an array. docs/adding-a-layer.md shows how one is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch2mlx.catalog.functions.layout import is_elementwise_layer
from torch2mlx.catalog.weights.actions import Rule
from torch2mlx.errors import Code, Unsupported
from torch2mlx.types import ModuleRecord

Layout = Literal["same", "channels_last"]
#: Tensors of a layer by name, with words for their dimensions: "out in k". Equal words are equal
#: sizes, a number or a word before `*` is a factor, "..." any shape, "" none.
Row = Mapping[str, str]
Children = Mapping[str, str] | Callable[[ModuleRecord], Mapping[str, str]]


@dataclass(frozen=True)
class Twin:
    """An MLX module to make: `path` is a dotted name, `arguments` its keywords.

    A path that names a function is wrapped in `torch2mlx.kit.Function` with these options.
    `layout`: whether inputs and outputs are laid out as torch's, or with channels last. `children`:
    arguments whose value is a torch module (or a list or dict of them), built first. `itemwise`:
    whether each item of the result is computed from one item of the input.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout = "same"
    children: Mapping[str, Any] = field(default_factory=dict)
    itemwise: bool = False


#: Takes a live layer (any object that has its attributes) and reads its options; builds nothing.
Make = Callable[[Any], Twin | Unsupported]


@dataclass(frozen=True)
class LayerSpec:
    """What is known of one torch layer class.

    `mlx` is the full name of the MLX class or function that takes its place; `weights` the rule
    of its tensors; `children` renames its sub-modules; a `container` is not counted as a layer; a
    `transparent` one is a wrapper: the name of the sub-module it stands for.

    `make` says what stands for a live layer: `mlx`, or `general` where options need that. `native`
    is what MLX itself has for it, which may have fewer options than `mlx`, or the kit's class that
    its tensors go to; coverage counts the layers that have one as mapped. `tensors` are the
    layer's own, None where any will do; a function gives them for the names of those there are.

    `source` is the constructor in a ported script, empty where it has none, and `note` what is said
    of it there; `renamed` are arguments that have other names in it, and `bare` says that it takes
    none. `images`: "rigid" layers take images alone, "flexible" ones arrays of any rank, so that
    what they get decides, and "kept" ones answer no image, or places in it. An `itemwise` layer
    treats every item alike: where it is not told, as the function of its name does.
    """

    torch: str
    mlx: str | None = None
    weights: Rule = field(default_factory=dict)
    children: Children = field(default_factory=dict)
    container: bool = False
    transparent: str | None = None
    make: Make | None = None
    general: str = ""
    native: str = ""
    tensors: Row | Callable[[Collection[str]], Row] | None = field(default_factory=dict)
    source: str = ""
    note: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False
    images: Literal["", "rigid", "flexible", "kept"] = ""
    itemwise: bool = False

    def child_names(self, record: ModuleRecord) -> Mapping[str, str]:
        """Names of sub-modules that change, old to new."""
        return self.children(record) if callable(self.children) else self.children


#: Entries of the package by the full name of their class.
BUILTIN: dict[str, LayerSpec] = {}
#: Classes that nothing stands for, by full name, with the reason.
REASONS: dict[str, str] = {}
#: What is said of a ported constructor, by where it is.
_NOTES = {
    "kit": "torch's arguments and answers",
    "kit.layers": "torch's options",
    "kit.channels_first": "takes (N, C, ...) as torch; mlx.nn's is channels-last",
}


def full_name(name: str) -> str:
    """A class's full name: one without a dot is of torch.nn."""
    return name if "." in name else f"torch.nn.{name}"


def layer(names: str, make: Make | None = None, **facts: Any) -> None:
    """Registers the entry of one class of torch, or of several that differ in their names alone.

    `names`: of torch.nn, or full ones, with spaces between them. `facts` are the columns of
    `LayerSpec`; `{name}` in a text is the class's name. `source` may name a place alone: "nn",
    "kit", "kit.layers" or "kit.channels_first"; without it, a layer that can be made is in the last
    where it has `images`, and in kit.layers where not. A `native` that is not given is `mlx`, if
    that is no name of the kit.

    Raises ValueError for a class that has an entry.
    """
    for name in names.split():
        full, short = full_name(name), name.rpartition(".")[2]
        if full in BUILTIN:
            raise ValueError(f"{full} has an entry already")
        told: dict[str, Any] = {
            k: v.format(name=short) if isinstance(v, str) else v for k, v in facts.items()
        }
        place = told.get("source", _place(make, told.get("images", "")))
        known = place == "nn" or place in _NOTES
        told["source"] = f"{place}.{short}" if known else place
        told.setdefault("note", _NOTES.get(place, ""))
        told.setdefault("itemwise", is_elementwise_layer(short))
        mlx = told.get("mlx", "")
        told.setdefault("native", mlx if mlx.startswith(("mlx.", "builtins.")) else "")
        BUILTIN[full] = LayerSpec(full, make=make, **told)


def without(names: str, reason: str) -> None:
    """Says of classes of torch that nothing stands for them, why, and what to do instead. What is
    known of their base classes holds for them all the same."""
    for name in names.split():
        if full_name(name) in BUILTIN or full_name(name) in REASONS:
            raise ValueError(f"{full_name(name)} has an entry already")
        REASONS[full_name(name)] = reason


def _place(make: Make | None, images: str) -> str:
    if make is None:
        return ""
    return "kit.channels_first" if images else "kit.layers"


def class_name(cls: type) -> str:
    """The name a class is registered under: the public one for what torch.nn exports."""
    module = cls.__module__
    if module.startswith("torch.nn.modules.") and not cls.__name__.startswith("_"):
        module = "torch.nn"
    return f"{module}.{cls.__qualname__}"


def refused(module: Any, detail: str, code: Code = Code.ARGUMENTS) -> Unsupported:
    """That MLX has nothing for a layer, by default with the options that it has, and why."""
    return Unsupported(code, type(module).__name__, detail)


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


def one_of(module: Any, known: Mapping[str, Any] | frozenset[str]) -> str:
    """The name, among those known, of the nearest class that a layer is of."""
    return next(cls.__name__ for cls in type(module).__mro__ if cls.__name__ in known)


def made_of(path: str, names: str = "", layout: Layout = "same", **renamed: str) -> Make:
    """A `make` that hands attributes of the layer on: `names`, with spaces between them, as they
    are called, and `renamed`, argument=attribute."""
    pairs = {**{name: name for name in names.split()}, **renamed}
    return lambda module: Twin(path, taken(module, pairs), layout)
