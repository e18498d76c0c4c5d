"""torch layers and their MLX counterparts: `lookup`, `register`, `registered_names`, `build`."""

from torch2mlx.catalog.layers.entry import LayerSpec, class_name
from torch2mlx.catalog.layers.lookup import lookup, register, registered_names, unregister
from torch2mlx.catalog.weights.actions import Drop, Merge, Move, On, Split
from torch2mlx.export.lower.build_layer import build, layout

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
