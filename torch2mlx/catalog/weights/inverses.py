"""What torch computes a tensor from, found again from a trained value of it.

Each inverse answers the sources whose formula (`folds`, `merges`) gives the new value, as close to
the old sources as the formula lets them be; or says why there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from torch2mlx.catalog.weights.merges import Array, from_array, to_array

#: How far from 1 a norm may be that torch holds at 1, by the dtype that the value came in.
_TOLERANCE = {"float64": 2.0**-20, "float32": 2.0**-20, "float16": 2.0**-10, "bfloat16": 2.0**-8}
_STEPS = 200


class Underivable(ValueError):
    """No sources give the trained value; the message says why, and what to do."""


@dataclass(frozen=True)
class Old:
    """A source before training, in float64, and the dtype that torch keeps it in."""

    values: Array
    dtype: str


@dataclass(frozen=True)
class New:
    """A trained value in float64, and the dtype that it came in."""

    values: Array
    dtype: str

    @property
    def tolerance(self) -> float:
        return _TOLERANCE.get(self.dtype, 2.0**-3)


def _rounded(values: Array, dtype: str) -> Array:
    return to_array(from_array(values, dtype)).astype(np.float64)


def weight_norm(dim: int | None, new: New, old: Sequence[Old]) -> list[Array]:
    """v is the weight itself and g its norm, as torch makes them when the norm is put on."""
    g, v = old[0].values, old[1].values
    axes = tuple(i for i, n in enumerate(g.shape) if n == 1) if g.ndim else None
    norm = np.sqrt(np.sum(np.square(new.values), axis=axes, keepdims=g.ndim > 0))
    direction = np.where(norm == 0, v, new.values)  # 0 / 0 is no direction
    return [np.asarray(norm).reshape(g.shape), direction]


def spectral_norm(dim: int | None, new: New, old: Sequence[Old]) -> list[Array]:
    """The weight, where its largest singular value is still the 1 that torch holds it at."""
    u, v = old[1].values, old[2].values
    matrix = np.moveaxis(new.values, dim or 0, 0).reshape(len(u), -1)
    sigma = u @ (matrix @ v)
    for _ in range(_STEPS):
        if abs(sigma - 1) <= new.tolerance:
            return [new.values, u, v]
        u = _unit(matrix @ v)
        v = _unit(matrix.T @ u)
        sigma = u @ (matrix @ v)
    raise Underivable(
        f"spectral_norm holds the largest singular value at 1, and that of the trained weight is "
        f"{sigma:.6g}: remove the norm from the torch module and convert it again before training, "
        "or divide the trained weight by it"
    )


def _unit(vector: Array) -> Array:
    return vector / max(float(np.sqrt(np.sum(np.square(vector)))), 1e-12)


def unit_vector(dim: int | None, new: New, old: Sequence[Old]) -> list[Array]:
    """The vector, where its length is still the 1 that torch holds it at."""
    length = float(np.sqrt(np.sum(np.square(new.values))))
    if abs(length - 1) > new.tolerance:
        raise Underivable(
            f"spectral_norm holds the vector's length at 1, and that of the trained one is "
            f"{length:.6g}: remove the norm from the torch module and convert it again before "
            "training, or divide the trained vector by it"
        )
    return [new.values]


def mask(dim: int | None, new: New, old: Sequence[Old]) -> list[Array]:
    """The trained weight where the mask lets it through, the old one elsewhere."""
    before, keep = old[0].values, old[1].values
    if np.any(new.values[keep == 0]):
        raise Underivable(
            "the trained weight is not zero where torch's pruning mask is: multiply it by the mask "
            "after each step, or make the pruning permanent (torch.nn.utils.prune.remove) and "
            "convert again before training"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return [np.where(keep == 0, before, new.values / keep), keep]


def _halves(new: Array, dtype: str, first: Old, second: Old) -> tuple[Array, Array]:
    """Two addends of a trained sum: each takes half of the change, as training both does.

    Items that did not change stay as they were; where rounding would leave the sum off by more
    than a unit in the last place, the first takes all.
    """
    a, b = first.values, second.values
    half = _rounded(a + (new - (a + b)) / 2, first.dtype)
    rest = _rounded(new - half, second.dtype)
    unit = np.abs(new) * {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(first.dtype, 2.0**-23)
    far = np.abs(half + rest - new) > unit
    half, rest = np.where(far, new, half), np.where(far, 0.0, rest)
    same = _rounded(a + b, dtype) == new
    return np.where(same, a, half), np.where(same, b, rest)


def add(dim: int | None, new: New, old: Sequence[Old]) -> list[Array]:
    """b_ih and b_hh of torch's RNN and LSTM from MLX's one bias."""
    return list(_halves(new.values, new.dtype, *old))


def gru_gates(dim: int | None, new: New, old: Sequence[Old]) -> list[Array]:
    """b_ih, and b_hh of the gates r and z, from the (3H,) `b` of MLX's GRU."""
    gates = 2 * (len(new.values) // 3)
    parts = [Old(source.values[:gates], source.dtype) for source in old]
    first, second = _halves(new.values[:gates], new.dtype, *parts)
    return [
        np.concatenate([first, new.values[gates:]]),
        np.concatenate([second, old[1].values[gates:]]),
    ]


def gru_new_gate(dim: int | None, new: New, old: Sequence[Old]) -> list[Array]:
    """b_hh with the (H,) `bhn` of MLX's GRU as its gate n."""
    gates = 2 * (len(old[0].values) // 3)
    return [np.concatenate([old[0].values[:gates], new.values])]


INVERSES: dict[str, Callable[[int | None, New, Sequence[Old]], list[Array]]] = {
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
    "unit_vector": unit_vector,
    "mask": mask,
    "add": add,
    "gru_gates": gru_gates,
    "gru_new_gate": gru_new_gate,
}


def _normed(dim: int | None, shapes: Sequence[tuple[int, ...]]) -> bool:
    g, v = shapes
    return not g or (len(g) == len(v) and all(n in (1, m) for n, m in zip(g, v, strict=True)))


def _spectral(dim: int | None, shapes: Sequence[tuple[int, ...]]) -> bool:
    weight, u, v = shapes
    kept = dim or 0
    if not -len(weight) <= kept < len(weight) or len(u) != 1 or len(v) != 1:
        return False
    return u[0] == weight[kept] and u[0] * v[0] == int(np.prod(weight, dtype=object))


def _thirds(dim: int | None, shapes: Sequence[tuple[int, ...]]) -> bool:
    return len(shapes[0]) == 1 and shapes[0][0] % 3 == 0 and len(set(shapes)) == 1


#: What the shapes of a formula's sources must be like: how many, and a rule for them.
FITS: dict[str, tuple[int, Callable[[int | None, Sequence[tuple[int, ...]]], bool]]] = {
    "weight_norm": (2, _normed),
    "spectral_norm": (3, _spectral),
    "unit_vector": (1, lambda dim, shapes: len(shapes[0]) == 1),
    "mask": (2, lambda dim, shapes: shapes[0] == shapes[1]),
    "add": (2, lambda dim, shapes: shapes[0] == shapes[1]),
    "gru_gates": (2, _thirds),
    "gru_new_gate": (1, _thirds),
}
