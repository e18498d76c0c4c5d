"""float64 has no place on MLX's GPUs, and mx.load refuses whole files with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from torch2mlx import _core
from torch2mlx.common.amounts import counted
from torch2mlx.common.collecting import paused
from torch2mlx.common.options import given
from torch2mlx.errors import ConversionError
from torch2mlx.types import Plan, TensorSource, original

#: The least magnitude that becomes infinite in float32; what lies below rounds to a number of it.
_BEYOND = (2 - 2**-24) * 2.0**127


def _refuse_beyond_float32(name: str, tensor: _core.Tensor) -> None:
    if _core.largest(tensor) < _BEYOND:
        return
    values = np.asarray(tensor)
    finite = values[np.isfinite(values)]
    worst = float(finite[np.abs(finite).argmax()])
    raise ConversionError(
        f"tensor {name!r} holds {worst:.6g}, which float32 cannot: {to_keep_float64()}"
    )


def to_keep_float64() -> str:
    """What to do where float32 is too narrow."""
    keeps = given("dtype", "float64")
    return f"pass {keeps} to keep float64 in the file (MLX has it on the CPU alone)"


def portable(plan: Plan, tensors: Mapping[str, TensorSource]) -> Plan:
    """The plan with float32 in the place of float64; the exact originals go to the sidecar.

    `tensors`: the sources of the plan. Raises ConversionError for values outside of float32's
    range.
    """
    if not any(piece.dtype == "float64" for piece in plan.pieces):
        return plan
    return _narrowed(plan, tensors)


@paused()
def _narrowed(plan: Plan, tensors: Mapping[str, TensorSource]) -> Plan:
    wide = {trace.key for trace in plan.traces if trace.dtype == "float64"}
    kept = {piece.target: piece for piece in plan.sidecar}
    for source in tensors.values():
        if source.key in wide and source.key not in kept:
            _refuse_beyond_float32(source.key, source.load())
            kept[source.key] = original(source)
    for piece in plan.pieces:
        if piece.dtype == "float64" and piece.deferred:  # computed from what the sidecar has
            _refuse_beyond_float32(piece.target, piece.load())
    pieces = tuple([p.cast("float32") if p.dtype == "float64" else p for p in plan.pieces])
    sidecar = tuple(kept[trace.key] for trace in plan.traces if trace.key in kept)
    count = sum(piece.dtype == "float64" for piece in plan.pieces)
    note = (
        f"float64 is float32 in the file ({counted(count, 'tensor')}), so that any device of MLX "
        "loads it; the exact originals are in the sidecar, for revert "
        f"({given('dtype', 'float64')} keeps float64 in the file)"
    )
    return replace(plan, pieces=pieces, sidecar=sidecar, notes=(*plan.notes, note))
