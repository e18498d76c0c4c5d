"""How each operator of torch is written in MLX, one family per file; importing registers them."""

from torch2mlx.export.lower.ops import (  # noqa: F401
    activations,
    algebra,
    attention,
    comparing,
    complexes,
    control,
    convolution,
    creation,
    decompositions,
    elementwise,
    embeddings,
    functions,
    identity,
    in_place,
    indexing,
    joining,
    linear,
    losses,
    magnitudes,
    norms,
    packed,
    pooling,
    random,
    recurrent,
    reductions,
    resizing,
    segments,
    shapes,
    sorting,
    special,
    spectra,
)
from torch2mlx.export.lower.ops.registry import find_lowering, lowered_names, lowers

__all__ = ["find_lowering", "lowered_names", "lowers"]
