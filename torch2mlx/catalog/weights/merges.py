"""Arithmetic on weights, for rules that merge several tensors into one.

Runs in float32 (float64 for float64), on tensors of one layer at a time; the result is rounded
once to the dtype of the first source.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from torch2mlx import _core

Array = npt.NDArray[np.floating]


def to_array(tensor: _core.Tensor) -> Array:
    """The values as a float32 array (float64 stays), copied when they have to be cast."""
    wide = "float64" if tensor.dtype == "float64" else "float32"
    return np.asarray(tensor if tensor.dtype == wide else tensor.dense(wide))


def from_array(array: Array, dtype: str) -> _core.Tensor:
    """The values rounded to `dtype`."""
    plain = np.ascontiguousarray(array)
    return _core.from_buffer(plain, plain.dtype.name).dense(dtype)


def add(first: Array, second: Array) -> Array:
    """MLX's RNN and LSTM have one bias where torch has b_ih and b_hh."""
    return first + second


def gru_gates(input_bias: Array, hidden_bias: Array) -> Array:
    """(3H,): r and z use b_ih + b_hh; n keeps b_ih (b_hn acts inside the reset gate)."""
    merged: Array = input_bias.copy()
    gates = 2 * (len(merged) // 3)
    merged[:gates] += hidden_bias[:gates]
    return merged


def gru_new_gate(hidden_bias: Array) -> Array:
    """(H,): the hidden bias of the n gate, MLX's `bhn`."""
    return hidden_bias[2 * (len(hidden_bias) // 3) :]


MERGES: dict[str, tuple[Callable[..., Array], Callable[..., tuple[int, ...]]]] = {
    # name: (values, shape of the result from the shapes of the sources)
    "add": (add, lambda first, second: first),
    "gru_gates": (gru_gates, lambda first, second: first),
    "gru_new_gate": (gru_new_gate, lambda first: (first[0] // 3,)),
}
