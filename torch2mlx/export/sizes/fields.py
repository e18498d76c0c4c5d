"""What a model is made with: the arguments of its constructor, and the numbers among them."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from types import SimpleNamespace
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.render import literal

#: The way to a value: the constructor's argument, then attributes, keys or places within.
Way = tuple[Any, ...]
_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Field:
    """A value that a model is made with. `settings`: it stands in an object of several."""

    way: Way
    value: Any = field(hash=False)  # it may be a list
    settings: bool = False

    @property
    def text(self) -> str:
        """The value in Python: `width`, `args.hidden_size`, `args.rope_parameters["theta"]`."""
        head, rest = str(self.way[0]), self.way[1:]
        if self.settings:
            head, rest = f"{head}.{rest[0]}", rest[1:]
        return head + "".join(f"[{literal(key)}]" for key in rest)

    @property
    def name(self) -> str:
        """What it is called: the last name on its way."""
        return str(next(part for part in reversed(self.way) if isinstance(part, str)))


@dataclass(frozen=True)
class Recipe:
    """A class and the arguments of its constructor. `settings`: those that hold several values, by
    the name that they have in the emitted file."""

    kind: Any
    arguments: Mapping[str, Any]
    settings: Mapping[str, str] = field(default_factory=dict)
    training: bool = False
    #: The floating-point dtype of the model, where it is not torch's own.
    dtype: Any = None

    def fields(self) -> list[Field]:
        """All values, plain ones that are nested in lists and dicts too."""
        found: list[Field] = []
        for name, value in self.arguments.items():
            shown = self.settings.get(name)
            if shown is None:
                found += [Field(way, v) for way, v in _leaves((name,), value)]
                continue
            for key, inner in _held(value).items():
                leaves = _leaves((shown, key), inner)
                found += [Field(way, v, True) for way, v in leaves]
        return found

    def varied(self, values: Mapping[Way, Any]) -> dict[str, Any]:
        """The arguments with other values."""
        given = {name: copied(value) for name, value in self.arguments.items()}
        values = {**self._lists(values), **values}
        names = {shown: name for name, shown in self.settings.items()}
        for way, value in values.items():
            name = names.get(str(way[0]), str(way[0]))
            if len(way) == 1:
                given[name] = value
            else:
                given[name] = _set(given[name], way[1:], value)
        return given

    def at(self, values: Mapping[Way, Any]) -> Recipe:
        """The recipe with other values."""
        return replace(self, arguments=self.varied(values))

    def _lists(self, values: Mapping[Way, Any]) -> dict[Way, Any]:
        """Lists of kinds of layers, as long as there are layers."""
        fields, found = self.fields(), {}
        for one in fields:
            if not is_kinds(one.value):
                continue
            same = [f for f in fields if type(f.value) is int and f.value == len(one.value)]
            same.sort(key=lambda f: "layer" not in f.name)
            count = values.get(same[0].way, len(one.value)) if same else len(one.value)
            found[one.way] = [one.value[i % len(one.value)] for i in range(count)]
        return found

    def make(self, values: Mapping[Way, Any]) -> Any:
        """A model with other values, in the mode of the one that was given."""
        import torch

        usual = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype or usual)  # what says float32 itself stays that
        try:
            return self.kind(**self.varied(values)).train(self.training)
        finally:
            torch.set_default_dtype(usual)


def copied(value: Any) -> Any:
    """A copy of an argument; of one that has none, itself."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _held(value: Any) -> dict[str, Any]:
    held = value if isinstance(value, Mapping) else vars(value)
    return {name: v for name, v in held.items() if isinstance(name, str) and name[0] != "_"}


def _leaves(way: Way, value: Any) -> Iterator[tuple[Way, Any]]:
    if isinstance(value, _PLAIN) or is_kinds(value):
        yield way, value
    elif isinstance(value, (list, tuple)) and value:
        for i, item in enumerate(value):
            yield from _leaves((*way, i), item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves((*way, key), item)


def is_kinds(value: Any) -> bool:
    """Whether a value is a list of texts: one for each layer, for example."""
    listed = isinstance(value, (list, tuple)) and bool(value)
    return listed and all(isinstance(item, str) for item in value)


def _set(owner: Any, way: Way, value: Any) -> Any:
    """An object with one value exchanged; tuples are made anew."""
    first, rest = way[0], way[1:]
    inner = value
    if rest:
        held = owner[first] if not isinstance(first, str) or isinstance(owner, Mapping) else None
        inner = _set(getattr(owner, first) if held is None else held, rest, value)
    if isinstance(owner, tuple):
        return tuple(inner if i == first else item for i, item in enumerate(owner))
    if isinstance(owner, (list, dict)):
        owner[first] = inner
    else:
        object.__setattr__(owner, first, inner)
    return owner


def recipe_of(model: Any) -> tuple[Recipe, Any]:
    """How a model is made, and the model. `model` is a class, a functools.partial of one, or a
    model whose constructor's arguments are among its attributes.

    Raises TranslationError where the arguments are not known.
    """
    if isinstance(model, functools.partial) and isinstance(model.func, type):
        return _made(model.func, model.args, model.keywords)
    if isinstance(model, type):
        return _made(model, (), {})
    config = getattr(model, "config", None)
    names = list(inspect.signature(type(model).__init__).parameters)[1:]
    if names and names[0] == "config" and hasattr(config, "model_type"):
        recipe = Recipe(type(model), {"config": config}, {"config": "args"}, model.training)
        return replace(recipe, dtype=_dtype(model)), model
    return _remembered(model), model


def _dtype(model: Any) -> Any:
    """The one floating-point dtype of a model's parameters; None for torch's own, and for
    several."""
    import torch

    held = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return held.pop() if len(held) == 1 and held != {torch.get_default_dtype()} else None


def _made(kind: type, args: Any, keywords: Any) -> tuple[Recipe, Any]:
    try:
        bound = inspect.signature(kind).bind(*args, **keywords)
    except TypeError as error:
        raise TranslationError(
            f"{kind.__name__}: {error}: give the class with its arguments, "
            f"functools.partial({kind.__name__}, ...)"
        ) from error
    bound.apply_defaults()
    model = kind(*args, **keywords).eval()
    return _recipe(kind, bound, model.training), model


def _remembered(model: Any) -> Recipe:
    """The recipe of a model that keeps its constructor's arguments."""
    kind, held = type(model), {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in vars(model):
            held[name] = vars(model)[name]
        elif parameter.default is not parameter.empty:
            held[name] = parameter.default
        else:
            raise TranslationError(
                f"{kind.__name__} does not keep its argument {name}: give the class with its "
                f"arguments, functools.partial({kind.__name__}, ...)"
            )
    bound = inspect.signature(kind).bind(**held)
    recipe = _recipe(kind, bound, model.training)
    if shapes_of(recipe.make({})) != shapes_of(model):
        raise TranslationError(
            f"{kind.__name__}: what it keeps are not the arguments that it was made with: give the "
            f"class with its arguments, functools.partial({kind.__name__}, ...)"
        )
    return recipe


def _recipe(kind: Any, bound: inspect.BoundArguments, training: bool) -> Recipe:
    kinds = {p.kind for p in bound.signature.parameters.values() if p.name in bound.arguments}
    loose = kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    if loose and any(bound.arguments[p.name] for p in _loose(bound)):
        raise TranslationError(f"{kind.__name__} takes *args or **kwargs: their sizes have no name")
    given = {n: v for n, v in bound.arguments.items() if n not in {p.name for p in _loose(bound)}}
    settings = {name: name for name, value in given.items() if _several(value)}
    return Recipe(kind, given, settings, training)


def _loose(bound: inspect.BoundArguments) -> list[inspect.Parameter]:
    wanted = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    held = bound.signature.parameters.values()
    return [p for p in held if p.kind in wanted and p.name in bound.arguments]


def _several(value: Any) -> bool:
    """Whether an argument is an object of named values."""
    if isinstance(value, type):
        return False
    return is_dataclass(value) or isinstance(value, SimpleNamespace) or hasattr(value, "model_type")


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's tensors by name."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
