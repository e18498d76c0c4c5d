"""Tensors that torch computes from others before each use, computed once for MLX.

Formulas as in torch.nn.utils (weight_norm, spectral_norm) and torch.nn.utils.prune, in eval mode:
spectral_norm uses the stored u and v and takes no power iteration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np

from torch2mlx.catalog.weights.merges import Array
from torch2mlx.types import Fold


def weight_norm(dim: int | None, g: Array, v: Array) -> Array:
    """g * v / |v|, the norm over every dimension that g has one item in.

    g has v's rank with 1 in the normed dimensions, or is 0-d when the norm is over all.
    """
    axes = tuple(i for i, n in enumerate(g.shape) if n == 1) if g.ndim else None
    norm = np.sqrt(np.sum(np.square(v), axis=axes, keepdims=g.ndim > 0))
    scaled: Array = v * (g / norm)
    return scaled


def spectral_norm(dim: int | None, weight: Array, u: Array, v: Array) -> Array:
    """weight / (u . W v), W being the weight as a matrix with dimension `dim` first."""
    matrix = np.moveaxis(weight, dim or 0, 0).reshape(len(u), -1)
    scaled: Array = weight / np.dot(u, matrix @ v)
    return scaled


def unit_vector(dim: int | None, weight: Array) -> Array:
    """spectral_norm of a vector: the vector over its length."""
    return weight / max(float(np.sqrt(np.sum(np.square(weight)))), 1e-12)


def mask(dim: int | None, weight: Array, keep: Array) -> Array:
    """A pruned weight: zero where the mask is zero."""
    return weight * keep


FORMULAS: dict[str, Callable[..., Array]] = {
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
    "unit_vector": unit_vector,
    "mask": mask,
}

#: The tensor of a fold that has the shape and dtype of the result.
LIKE: dict[str, int] = {"weight_norm": 1, "spectral_norm": 0, "unit_vector": 0, "mask": 0}

# How state dicts spell them: pattern of the first name -> (formula, the other names).
_SPELLINGS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"(?P<name>\w+)_g", "weight_norm", ("{name}_g", "{name}_v")),
    (r"(?P<name>\w+)_orig", "spectral_norm", ("{name}_orig", "{name}_u", "{name}_v")),
    (r"(?P<name>\w+)_orig", "mask", ("{name}_orig", "{name}_mask")),
    (
        r"parametrizations\.(?P<name>\w+)\.original0",
        "weight_norm",
        ("parametrizations.{name}.original0", "parametrizations.{name}.original1"),
    ),
    (
        r"parametrizations\.(?P<name>\w+)\.original",
        "spectral_norm",
        tuple(f"parametrizations.{{name}}.{n}" for n in ("original", "0._u", "0._v")),
    ),
)


def spelled(names: Iterable[str], dim: int = 0) -> tuple[Fold, ...]:
    """Folds that the tensor names of one module show, for sources without a live module."""
    present = tuple(names)
    return _few_spelled(present, dim) if len(present) <= _FEW else _spelled(present, dim)


def _spelled(present: tuple[str, ...], dim: int) -> tuple[Fold, ...]:
    found: dict[str, Fold] = {}
    known = frozenset(present)
    for pattern, how, parts in _SPELLINGS:
        for match in filter(None, map(re.compile(pattern).fullmatch, present)):
            sources = tuple(part.format(name=match["name"]) for part in parts)
            if known.issuperset(sources):
                found.setdefault(match["name"], Fold(match["name"], how, sources, dim))
    return tuple(found.values())


# modules of one kind have the same names, and checkpoints thousands of such modules
_FEW = 32
_few_spelled = lru_cache(maxsize=1024)(_spelled)
