"""Weights of an MLX module that are not those of the torch model it is compared with."""

from __future__ import annotations

from typing import Any

from torch2mlx.checking.comparing import TOLERANCES
from torch2mlx.errors import Torch2MLXError
from torch2mlx.graph.empty import is_empty
from torch2mlx.graph.stored import Stored
from torch2mlx.loading import mlx_array
from torch2mlx.structures import difference, numpy_of


def strangers(model: Any, module: Any) -> tuple[str, ...]:
    """Names of arrays, under the keys that `convert` writes, that hold other values there; none
    for a module with names of its own."""
    from mlx.utils import tree_flatten

    if is_empty(model):
        return ()
    held = dict(tree_flatten(module.parameters()))
    try:
        pieces = [p for p in Stored(model).plan.pieces if p.target in held]
    except Torch2MLXError:  # weights that have no MLX form are no strangers
        return ()
    return tuple(p.target for p in pieces if _other(p, held[p.target]))


def _other(piece: Any, held: Any) -> bool:
    own = numpy_of(mlx_array(piece.load().dense()).reshape(piece.shape))
    found = numpy_of(held)
    if own.shape != found.shape:
        return True
    return difference(own, found) > TOLERANCES.get(str(found.dtype), 0.0)
