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
    sparse,
    spectra,
)
from torch2mlx.export.lower.ops.from_catalog import catalogued, catalogued_names
from torch2mlx.export.lower.ops.registry import Lowering, given_lowering, lowered_names, lowers

__all__ = ["find_lowering", "lowers", "operator_names"]


def find_lowering(name: str, overload: str) -> Lowering | None:
    """The function for an operator: a user's, one of this folder, or what the catalogue says."""
    return given_lowering(name, overload) or catalogued(name, overload)


def operator_names() -> frozenset[str]:
    """The operators that translate has, as "aten::add", whatever their overloads."""
    return frozenset(name.partition(".")[0] for name in (*lowered_names(), *catalogued_names()))
