"""Which MLX module stands for a torch layer, with which arguments: one file for each family."""

from torch2mlx.catalog.layers import (  # noqa: F401  each registers its functions
    activation,
    attention,
    conv,
    dropout,
    loss,
    norm,
    pooling,
    recurrent,
    shape,
    simple,
)
from torch2mlx.catalog.layers.twin import Twin, find_twin, twin_names

__all__ = ["Twin", "find_twin", "twin_names"]
