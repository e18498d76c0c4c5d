"""One parameter under two names, as torch has it after `decoder.weight = encoder.weight`."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import weights
from torch2mlx.kit.stubs import tree_flatten


class _Tied(nn.Module):
    """Mixed into the class of a module whose arrays of some keys are another module's."""

    _ties: dict[str, tuple[nn.Module, str]]

    def _tie(self, key: Any) -> tuple[nn.Module, str] | None:
        return self.__dict__.get("_ties", {}).get(key)  # copies are filled before they have it

    def __getitem__(self, key: Any) -> Any:
        found = self._tie(key)
        return super().__getitem__(key) if found is None else found[0][found[1]]

    def __getattr__(self, key: str) -> Any:
        found = self._tie(key)
        return super().__getattr__(key) if found is None else found[0][found[1]]

    def __contains__(self, key: Any) -> bool:
        return self._tie(key) is not None or super().__contains__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        found = self._tie(key)
        if found is None:
            super().__setitem__(key, value)
        else:
            found[0][found[1]] = value

    def __setattr__(self, key: str, value: Any) -> None:
        if self._tie(key) is None:
            super().__setattr__(key, value)
        else:
            self[key] = value


def _owner(root: nn.Module, name: str) -> tuple[Any, str]:
    *path, key = name.split(".")
    owner: Any = root
    for part in path:
        owner = owner[int(part)] if isinstance(owner, (list, tuple)) else owner[part]
    return owner, key


def tie(root: nn.Module, alias: str, name: str) -> None:
    """Makes the parameter `alias` be the parameter `name`, both dotted names from `root`.

    The one that comes first in `root` is kept, as in converted checkpoints; the other is read and
    set through it, so both see every update, and its gradient is the sum.
    """
    tie_layers(root, *_owner(root, alias), *_owner(root, name))


def tie_layers(root: nn.Module, layer: nn.Module, key: str, other: nn.Module, name: str) -> None:
    """Makes the parameter `key` of a layer be the parameter `name` of another one, as `tie` does;
    both layers are somewhere in `root`. Raises ValueError where they are not, where their arrays
    lie in other orders, and where further layers have the parameter that `layer` had.
    """
    other, name = _kept(other, name)
    if _same((layer, key), (other, name)) or _same(_kept(layer, key), (other, name)):
        return
    paths = {id(part): path for path, part in reversed(root.named_modules())}
    if not {id(layer), id(other)} <= set(paths):
        raise ValueError(f"{key}: a parameter of a layer that {type(root).__name__} does not have")
    _check_layouts(layer, key, other, name)
    ties = (part.__dict__.get("_ties", {}) for part in root.modules())
    if any(_same(place, (layer, key)) for held in ties for place in held.values()):
        raise ValueError(f"{paths[id(layer)]}.{key}: another layer has the parameter that it had")
    _untie(layer, key)
    if key not in layer:  # it was deleted before
        layer[key] = other[name]
    order = [name for name, _ in tree_flatten(root.parameters())]
    places = [f"{paths[id(o)]}.{k}".lstrip(".") for o, k in ((layer, key), (other, name))]
    value: mx.array = other[name]
    if order.index(places[0]) < order.index(places[1]):
        layer[key] = value
        (layer, key), (other, name) = (other, name), (layer, key)
    _hide(layer, key, (other, name))


def untie(layer: nn.Module, key: str) -> None:
    """Has a layer that is given a new parameter leave the one that it shares with another layer,
    as torch's does. Raises ValueError where it is the one that keeps it."""
    if key in layer.__dict__.get("_given", ()):
        raise ValueError(f"{key}: another layer has this parameter too: make a new layer")
    _untie(layer, key)


def _same(one: tuple[nn.Module, str], other: tuple[nn.Module, str]) -> bool:
    return one[0] is other[0] and one[1] == other[1]


def _kept(owner: nn.Module, key: str) -> tuple[nn.Module, str]:
    """The module that has a parameter which may be another module's, and the key there."""
    while key in owner.__dict__.get("_ties", {}):
        owner, key = owner.__dict__["_ties"][key]
    return owner, key


def _untie(owner: nn.Module, key: str) -> None:
    """Gives a module that has another one's parameter an array of its own again."""
    ties = owner.__dict__.get("_ties", {})
    if key in ties:
        value = owner[key]
        del ties[key]
        items = list(owner.items())
        items.insert(owner.__dict__["_hidden_at"][key], (key, value))
        dict.clear(owner)  # names come in torch's order
        dict.update(owner, items)


def _hide(owner: Any, key: str, place: tuple[nn.Module, str]) -> None:
    """Has a module read and set a parameter where it is kept."""
    places = {**owner.__dict__.get("_hidden_at", {}), key: list(owner).index(key)}
    object.__setattr__(owner, "_hidden_at", places)
    kept = place[0].__dict__.get("_given", frozenset())
    object.__setattr__(place[0], "_given", kept | {place[1]})
    if isinstance(owner, _Tied):
        owner._ties[key] = place
    else:
        kind = type(owner)
        object.__setattr__(owner, "_ties", {key: place})
        owner.__class__ = type(kind.__name__, (_Tied, kind), {"__doc__": kind.__doc__})
    dict.pop(owner, key)


def _check_layouts(layer: nn.Module, key: str, other: nn.Module, name: str) -> None:
    """Raises ValueError where one array cannot be that of both: torch's layouts are other ones."""
    lie = [weights.forms(owner).get(k) for owner, k in ((layer, key), (other, name))]
    alike = all(form is None or form.join is None for form in lie)
    groups = {getattr(owner, "_groups", 1) for owner in (layer, other)}
    kinds = [_kind(owner).__name__ for owner in (layer, other)]  # channels first or last
    if not alike and (kinds[0] != kinds[1] or len(groups) > 1):
        told = f"a {kinds[0]} and a {kinds[1]}"
        raise ValueError(f"{key}: {told} have other layouts in MLX, and cannot share an array")


def _kind(layer: nn.Module) -> type:
    """The class of a layer, which may be tied already."""
    return next(kind for kind in type(layer).__mro__ if not issubclass(kind, _Tied))


def noted(module: nn.Module, note: str) -> set[str]:
    """Dotted names of what a module and those below it list in an attribute of their own."""
    return {
        f"{path}.{key}" if path else key
        for path, owner in module.named_modules()
        for key in owner.__dict__.get(note, ())
    }


def aliases(module: nn.Module) -> set[str]:
    """Dotted names of parameters that are others'."""
    return noted(module, "_ties")
