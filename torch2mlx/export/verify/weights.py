"""Weights of an MLX module that are not those of the torch model it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch2mlx.checkpoint.plan.forms import keeping, plan_of
from torch2mlx.checkpoint.source.converted import mlx_array
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.errors import Torch2MLXError
from torch2mlx.export.capture.empty_weights import is_empty, opened
from torch2mlx.export.ir.structures import difference, numpy_of
from torch2mlx.export.verify.comparing import TOLERANCES
from torch2mlx.types import Plan


class Planned:
    """How the tensors of a torch model are laid in an MLX module that is there: in modules that
    keep torch's own, both biases of a recurrent layer for one, by their own rules."""

    def __init__(self, model: Any, module: Any) -> None:
        from mlx.utils import tree_flatten

        self.held = dict(tree_flatten(module.parameters()))
        self._checkpoint = opened(model)
        self._keeping = keeping(self._checkpoint, self.held)

    def plan(self, values: Mapping[str, Any] | None = None) -> Plan:
        """The plan; with other values for some of torch's tensors, gradients for instance."""
        tensors = {
            key: borrow(key, values[key].contiguous()) if values and key in values else tensor
            for key, tensor in self._checkpoint.tensors.items()
        }
        return plan_of(replace(self._checkpoint, tensors=tensors), self._keeping)


def strangers(model: Any, module: Any) -> tuple[str, ...]:
    """Names of arrays, under the keys that `convert` writes, that hold other values there; none
    for a module with names of its own."""
    if is_empty(model) or not model.state_dict():
        return ()
    try:
        known = Planned(model, module)
        pieces = [p for p in known.plan().pieces if p.target in known.held]
    except Torch2MLXError:  # weights that have no MLX form are no strangers
        return ()
    return tuple(p.target for p in pieces if _other(p, known.held[p.target]))


def _other(piece: Any, held: Any) -> bool:
    own = numpy_of(mlx_array(piece.load().dense()).reshape(piece.shape))
    found = numpy_of(held)
    if own.shape != found.shape:
        return True
    return difference(own, found) > TOLERANCES.get(str(found.dtype), 0.0)
