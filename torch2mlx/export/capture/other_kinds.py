"""Example inputs of other ranks and dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: What is tried for arrays of each kind.
_DTYPES = {
    "floating": ("float16", "bfloat16", "float32", "int64", "uint8", "bool", "complex64"),
    "whole": ("int64", "int32", "uint8", "bool", "float32"),
    "bool": ("int64", "float32"),
    "complex": ("float32",),
}


def of_other_ranks(x: Any, decides: bool) -> Iterator[Any]:
    """A tensor with an axis more or less, each place of it; where something is decided by ranks
    also with two axes joined, and with two more or less."""
    rank = x.ndim
    for axis in dict.fromkeys((0, rank, *range(rank))):
        yield x.unsqueeze(axis)
    for axis in dict.fromkeys((0, rank - 1, *range(rank))) if rank else ():
        yield x.select(axis, 0)
    if not decides:
        return
    for axis in dict.fromkeys((0, rank)):
        yield _twice(x.unsqueeze(axis), axis)
    for axis in range(rank - 1):
        yield x.flatten(axis, axis + 1)
    yield x[None, None]
    if rank > 1:
        yield x[0, 0]
        yield x[..., 0, 0]


def _twice(x: Any, axis: int) -> Any:
    import torch

    return torch.cat([x, x], axis)


def of_other_dtypes(x: Any) -> Iterator[Any]:
    """A tensor in other dtypes; whole numbers are small, since they may be places in a table, and
    are tried with an axis less too, as those places would have."""
    import torch

    kind = "floating" if x.is_floating_point() else "complex" if x.is_complex() else "whole"
    for name in _DTYPES["bool" if x.dtype == torch.bool else kind]:
        dtype = getattr(torch, name)
        if dtype == x.dtype:
            continue
        made = _in(x, dtype)
        yield made
        if kind == "floating" and name == "int64" and x.ndim > 1:
            yield made[..., 0]
        if kind == "whole" and name == "float32":
            yield made.unsqueeze(-1)


def _in(x: Any, dtype: Any) -> Any:
    import torch

    if dtype == torch.bool:
        return x > x.float().mean() if not x.is_complex() else x.real > 0
    whole = not (dtype.is_floating_point or dtype.is_complex)
    if whole and (x.is_floating_point() or x.is_complex()):
        return (x.abs() * 7).nan_to_num().clamp(0, 1000).long().remainder(4).to(dtype)
    return (x.real if x.is_complex() and not dtype.is_complex else x).to(dtype)
