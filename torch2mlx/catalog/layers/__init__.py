"""What stands for a torch layer, and what becomes of its tensors: one file for each family."""

from torch2mlx.catalog.layers import (  # noqa: F401  each registers its entries
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
    wrappers,
)
from torch2mlx.catalog.layers.entry import LayerSpec, Twin
from torch2mlx.catalog.layers.lookup import find_twin, lookup, twin_names

__all__ = ["LayerSpec", "Twin", "find_twin", "lookup", "twin_names"]
