"""Groups of parameters with their own options, as torch.optim's first argument gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_unflatten

from torch2mlx.kit import weights
from torch2mlx.kit.stubs import tree_flatten

#: Options of torch's groups that say nothing about the update.
_UNUSED = ("params", "name", "foreach", "fused", "capturable", "differentiable")


def _names(model: nn.Module) -> dict[tuple[int, str], str]:
    """MLX's names of the arrays that are parameters, by the modules that hold them and their keys
    there."""
    return {
        (id(owner), key): name
        for tensor in weights.parameters(model)
        for (owner, key), name in zip(tensor.places, tensor.names, strict=True)
    }


class ParameterGroups:
    """Several optimizers of one kind, each with the parameters of its group.

    `model` holds the parameters; `make` is a class of
    kit.optimizers; `groups` what torch.optim takes: arrays of the model, or dicts with "params"
    and options, the rest of which `defaults` gives. `optimizers` are those of the groups, in
    order. Raises ValueError for arrays that are not in the model, and for no groups at all.
    """

    def __init__(
        self, model: nn.Module, make: Callable[..., Optimizer], groups: Any, **defaults: Any
    ) -> None:
        listed = [groups] if isinstance(groups, dict) else list(groups)
        if not listed:
            raise ValueError("an optimizer needs parameters: the list is empty")
        if not isinstance(listed[0], dict):
            listed = [{"params": listed}]
        known = {
            id(tensor.value()): {(id(owner), key) for owner, key in tensor.places}
            for tensor in weights.parameters(model)
        }
        self.optimizers: list[Optimizer] = []
        self._model = model  # whose modules tell the parameters apart, so they must live
        self._places: list[set[tuple[int, str]]] = []
        for place, group in enumerate(listed):
            given = group["params"]
            arrays = [given] if isinstance(given, mx.array) else list(given)
            if any(id(array) not in known for array in arrays):
                raise ValueError(f"group {place} has parameters that are not in the model")
            self._places.append(set().union(*(known[id(array)] for array in arrays)))
            options = {k: v for k, v in {**defaults, **group}.items() if k not in _UNUSED}
            self.optimizers.append(make(**options))

    def update(self, model: nn.Module, gradients: Any) -> None:
        """One step of every group; parameters that are in none stay as they are.

        `model` is the one that the groups were made with, or another that holds its modules.
        Raises ValueError where it lacks some of them.
        """
        flat, here = tree_flatten(gradients), _names(model)
        for optimizer, places in zip(self.optimizers, self._places, strict=True):
            if not places <= here.keys():
                raise ValueError("the model lacks parameters of this optimizer's groups")
            names = {here[place] for place in places}
            part = [(name, gradient) for name, gradient in flat if name in names]
            if part:
                optimizer.update(model, tree_unflatten(part))

    def names(self) -> list[set[str]]:
        """The parameters of each group, by their names in the model."""
        names = _names(self._model)
        return [{names[place] for place in places} for places in self._places]

    @property
    def learning_rate(self) -> Any:
        """The first group's; setting it sets every group's."""
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        for optimizer in self.optimizers:
            optimizer.learning_rate = value

    @property
    def state(self) -> list[Any]:
        """The states of the groups' optimizers."""
        return [optimizer.state for optimizer in self.optimizers]

    @state.setter
    def state(self, value: Iterable[Any]) -> None:
        for optimizer, state in zip(self.optimizers, value, strict=True):
            optimizer.state = state
