"""torch layers and their MLX counterparts: `lookup`, `register`, `registered_names`, `build`."""

from torch2mlx.builder import build, layout
from torch2mlx.weights.actions import Drop, Merge, Move, On, Split
from torch2mlx.weights.catalog import (
    LayerSpec,
    class_name,
    lookup,
    register,
    registered_names,
    unregister,
)

__all__ = [
    "Drop",
    "LayerSpec",
    "Merge",
    "Move",
    "On",
    "Split",
    "build",
    "class_name",
    "layout",
    "lookup",
    "register",
    "registered_names",
    "unregister",
]
