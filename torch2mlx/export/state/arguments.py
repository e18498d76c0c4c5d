"""The state of a model that takes it as arguments and answers it: which of its results is which."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.capture.keywords import positional_names
from torch2mlx.export.ir.structures import copied
from torch2mlx.export.state.stepping import Step
from torch2mlx.export.state.trees import numbers_of, tensors_of


def step_with(
    model: Any, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[str]
) -> Step:
    """A call of a model whose arguments `state` are what the call before answered.

    Raises TranslationError for a name that is not among the arguments, one that holds no tensors,
    and one that no result follows, or several could.
    """
    import torch

    names = positional_names(model.forward, len(args))
    given = {**dict(zip(names, args, strict=True)), **kwargs}
    held = {}
    for name in state:
        if name not in given:
            raise TranslationError(f"state {name!r} is no argument: they are {', '.join(given)}")
        if not tensors_of(given[name]):
            raise TranslationError(f"state {name!r} holds no tensors: give an example of it")
        held[name] = given.pop(name)
    inputs = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
    fixed = {name: value for name, value in given.items() if name not in inputs}
    if any(tensors_of(value) for value in fixed.values()):
        odd = next(name for name, value in fixed.items() if tensors_of(value))
        raise TranslationError(f"{odd}: beside a state, tensors are arguments of their own")
    output = _answered(model, copied({**given, **held}))
    places = {name: _place(name, value, output) for name, value in held.items()}
    if len(set(places.values())) < len(places):
        raise TranslationError(f"state {', '.join(places)}: one result would be several of them")

    def following(after: Any, _: Any) -> Mapping[str, Any]:
        return {name: _at(after, place) for name, place in places.items()}

    tensors = tuple(tensors_of(held))
    later = numbers_of(following(output, held))
    numbers = tuple(p for p, n in numbers_of(held).items() if later.get(p, n) != n)
    answer = _without(frozenset(places.values()))
    return Step(inputs, fixed, held, answer, following, tensors, numbers, frozenset(tensors))


def _answered(model: Any, given: Mapping[str, Any]) -> Any:
    import torch

    with torch.no_grad():
        return model(**given)


def _parts(output: Any) -> Mapping[Any, Any]:
    """The parts of a result by name or place."""
    if isinstance(output, Mapping):
        return output
    if dataclasses.is_dataclass(output):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    return dict(enumerate(output)) if isinstance(output, (tuple, list)) else {}


def _at(output: Any, place: Any) -> Any:
    return _parts(output)[place]


def _place(name: str, value: Any, output: Any) -> Any:
    """Which part of a result is the next version of an argument."""
    parts = _parts(output)
    if name in parts:
        return name
    alike = [key for key, part in parts.items() if _alike(value, part, exactly=False)]
    exact = [key for key in alike if _alike(value, parts[key], exactly=True)]
    found = exact or alike
    if len(found) != 1:
        what = "no result is" if not found else f"results {', '.join(map(str, found))} could be"
        raise TranslationError(f"state {name!r}: {what} its next version")
    return found[0]


def _alike(value: Any, part: Any, exactly: bool) -> bool:
    """Whether a result holds tensors as an argument does."""
    old, new = tensors_of(value), tensors_of(part)
    if old.keys() != new.keys():
        return False
    pairs = [(old[path], new[path]) for path in old]
    if exactly:
        return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return all(a.ndim == b.ndim and a.dtype == b.dtype for a, b in pairs)


def _without(places: frozenset[Any]) -> Callable[[Any], Any]:
    """What picks out of a result all that is no state: the only part as it is."""

    def answer(output: Any) -> Any:
        rest = {key: part for key, part in _parts(output).items() if key not in places}
        if all(isinstance(key, str) for key in rest) and len(rest) > 1:
            return rest
        values = tuple(rest.values())
        return values[0] if len(values) == 1 else values

    return answer
