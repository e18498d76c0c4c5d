"""float64 has no place on MLX's GPUs, and mx.load refuses whole files with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from torch2mlx import _core
from torch2mlx.amounts import counted
from torch2mlx.errors import ConversionError
from torch2mlx.options import given
from torch2mlx.types import Deferred, Piece, Plan, TensorSource

_LARGEST = float(np.finfo(np.float32).max)


def _beyond_float32(tensor: _core.Tensor) -> float | None:
    """A finite value that float32 would make infinite."""
    values = np.asarray(tensor)
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if np.isfinite([low, high]).all():
        worst = low if -low > high else high
    else:
        finite = np.where(np.isfinite(values), np.abs(values), 0)
        worst = float(finite.max())
    # what rounds to the largest float32 is still in its range
    return worst if np.isinf(np.float32(np.clip(worst, -1e300, 1e300))) else None


def _refuse_beyond_float32(name: str, tensor: _core.Tensor) -> None:
    worst = _beyond_float32(tensor)
    if worst is not None:
        raise ConversionError(
            f"tensor {name!r} holds {worst:.6g}, which float32 cannot: pass "
            f"{given('dtype', 'float64')} to keep float64 in the file (MLX has it on the CPU alone)"
        )


def portable(plan: Plan, tensors: Mapping[str, TensorSource]) -> Plan:
    """The plan with float32 in the place of float64; the exact originals go to the sidecar.

    `tensors`: the sources of the plan. Raises ConversionError for values outside of float32's
    range.
    """
    if not any(piece.dtype == "float64" for piece in plan.pieces):
        return plan
    with np.errstate(over="ignore"):
        return _narrowed(plan, tensors)


def _narrowed(plan: Plan, tensors: Mapping[str, TensorSource]) -> Plan:
    wide = {trace.key for trace in plan.traces if trace.dtype == "float64"}
    kept = {piece.target: piece for piece in plan.sidecar}
    for source in tensors.values():
        if source.key in wide and source.key not in kept:
            _refuse_beyond_float32(source.key, source.load())
            deferred = isinstance(source, Deferred)
            kept[source.key] = Piece(
                source.key, source.shape, "float64", (source.key,), "copy", source.load, deferred
            )
    for piece in plan.pieces:
        if piece.dtype == "float64" and piece.deferred:  # computed from what the sidecar has
            _refuse_beyond_float32(piece.target, piece.load())
    pieces = tuple(p._replace(dtype="float32") if p.dtype == "float64" else p for p in plan.pieces)
    sidecar = tuple(kept[trace.key] for trace in plan.traces if trace.key in kept)
    count = sum(piece.dtype == "float64" for piece in plan.pieces)
    note = (
        f"float64 is float32 in the file ({counted(count, 'tensor')}), so that any device of MLX "
        "loads it; the exact originals are in the sidecar, for revert "
        f"({given('dtype', 'float64')} keeps float64 in the file)"
    )
    return replace(plan, pieces=pieces, sidecar=sidecar, notes=(*plan.notes, note))
