"""The parts of a module as torch gives them: in its order, and under its names.

What MLX's `children` and `named_modules` give has MLX's names. Lists and dicts of modules, which
are modules in torch, come as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.nn as nn

from torch2mlx.kit import channels_first
from torch2mlx.kit.weights import parts


def _named(module: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(module, nn.Module):
        yield from ((name, part) for name, _, part in parts(module))
    else:
        items = module.items() if isinstance(module, dict) else enumerate(module)
        yield from ((str(key), part) for key, part in items)


def named_children(module: Any) -> Iterator[tuple[str, Any]]:
    """(name, part) pairs of the parts of a module, each part once."""
    seen: set[int] = set()
    for name, part in _named(module):
        if id(part) not in seen:
            seen.add(id(part))
            yield name, part


def add(module: Any, name: str, part: Any) -> None:
    """torch's `add_module`: a part under a name; of a Sequential, one more layer at its end, or
    another one in the place of the name. A list of modules has numbers for names: its parts keep
    their order alone."""
    if isinstance(module, dict) and not isinstance(module, nn.Module):
        module[name] = part
        return
    if isinstance(module, list):
        if name.isdecimal() and int(name) < len(module):
            module[int(name)] = part
        else:
            module.append(part)
        return
    if not isinstance(module, nn.Sequential):
        setattr(module, name, part)
        return
    names = module.__dict__.setdefault("_layer_names", [])
    names += [str(i) for i in range(len(names), len(module.layers))]
    if name in names:
        module.layers[names.index(name)] = part
    else:
        names.append(name)
        module.layers.append(part)


def assign(module: Any, name: str, value: Any) -> None:
    """`setattr(module, name, value)` of a name that is torch's: a part of a Sequential, a list or a
    dict of modules takes the place of the one that has the name."""
    held = isinstance(module, (nn.Sequential, list)) or type(module) is dict
    if held and isinstance(value, (nn.Module, list, dict)):
        add(module, name, value)
    else:
        setattr(module, name, value)


def kind(value: Any) -> type:
    """`type(value)`, of a layer of kit.channels_first the class that has torch's name elsewhere."""
    found = type(value)
    above = found.__mro__ if found.__module__ == channels_first.__name__ else ()
    return next((k for k in above if k.__module__ != channels_first.__name__), found)


def children(module: Any) -> Iterator[Any]:
    """The parts of a module, each once."""
    return (part for _, part in named_children(module))


def named_modules(module: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, module) pairs of a module, whose name is empty, and of all below it, each
    once."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", module)]
    while waiting:
        name, found = waiting.pop()
        if id(found) in seen or not isinstance(found, (nn.Module, list, tuple, dict)):
            continue
        seen.add(id(found))
        yield name, found
        below = [(f"{name}.{key}" if name else key, part) for key, part in _named(found)]
        waiting += below[::-1]


def modules(module: Any) -> Iterator[Any]:
    """A module and all below it, each once, in torch's order."""
    return (part for _, part in named_modules(module))


def apply(module: Any, function: Callable[[Any], Any]) -> Any:
    """torch's `module.apply`: calls a function with every module, parts before what holds them, and
    answers the module. Lists and dicts of modules are passed by, their items are not."""
    for part in children(module):
        apply(part, function)
    if isinstance(module, nn.Module):
        function(module)
    return module


def submodule(module: Any, name: str) -> Any:
    """torch's `get_submodule`: the part of a dotted name. Raises AttributeError where there is
    none."""
    found = next((part for key, part in named_modules(module) if key == name), None)
    if found is None:
        raise AttributeError(f"{type(module).__name__} has no part named {name!r}")
    return found
