"""Arguments that a forward takes as **kwargs: torch.export frees no lengths of a forward with
them, so while it traces they are arguments by name."""

from __future__ import annotations

import functools
import inspect
import keyword
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter
from typing import Any

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@contextmanager
def named_keywords(model: Any, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """While open, the forward's signature names what a call gives to its **kwargs."""
    forward, held = model.forward, dict(vars(model))
    signature = _signature(forward, kwargs)
    if signature is None:
        yield
        return

    @functools.wraps(forward)
    def call(*args: Any, **given: Any) -> Any:
        return forward(*args, **given)

    named: Any = call
    named.__signature__ = signature
    model.forward = named
    try:
        yield
    finally:
        del model.forward
        if "forward" in held:
            model.forward = held["forward"]


def _signature(forward: Any, kwargs: Mapping[str, Any]) -> Any:
    """The one with names; None where there are none to add, or Python has no such arguments."""
    signature = inspect.signature(forward)
    parameters = signature.parameters.values()
    named = {p.name for p in parameters if p.kind not in _VARIABLE}
    more = [name for name in kwargs if name not in named]
    own = [p for p in parameters if p.kind is not Parameter.VAR_KEYWORD]
    taken = named | {p.name for p in own}
    usual = all(n.isidentifier() and not keyword.iskeyword(n) and n not in taken for n in more)
    if not more or len(own) == len(parameters) or not usual:
        return None
    return signature.replace(
        parameters=[*own, *(Parameter(n, Parameter.KEYWORD_ONLY) for n in more)]
    )


def positional_names(forward: Any, count: int) -> list[str]:
    """The names of a call's positional arguments; those of *args after the first by number."""
    parameters = inspect.signature(forward).parameters.values()
    known = [p.name for p in parameters if p.kind in (*_POSITIONAL, Parameter.VAR_POSITIONAL)]
    return [known[i] if i < len(known) else f"argument_{i}" for i in range(count)]


def own_default(forward: Any, name: str) -> Any:
    """The default of an argument by its name; Parameter.empty where it has none."""
    parameter = inspect.signature(forward).parameters.get(name)
    return Parameter.empty if parameter is None else parameter.default
