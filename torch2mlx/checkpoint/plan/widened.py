"""Tensors that the dtype asked for cannot hold keep a wider one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch2mlx.checkpoint.plan.portable import to_keep_float64
from torch2mlx.errors import ConversionError
from torch2mlx.types import Piece, Plan

#: dtypes that every device of MLX has, and with less range than float32 has.
_NARROW = ("float16", "bfloat16")


def widened(plan: Plan, beyond: Mapping[str, str]) -> Plan:
    """The plan with wider dtypes for pieces by their targets, and a note that names them.

    `beyond`: the targets, with the dtypes that cannot hold what is in them. Such a piece is written
    in the dtype that its sources share, or in float32. Raises ConversionError for one that float32
    cannot hold either.
    """
    dtypes = {trace.key: trace.dtype for trace in plan.traces}
    pieces = [_wider(piece, dtypes) if piece.target in beyond else piece for piece in plan.pieces]
    kept = [f"{p.target} stays {p.dtype}" for p in pieces if p.target in beyond]
    told = "; ".join(kept[:3]) + (f"; and {len(kept) - 3} more" if len(kept) > 3 else "")
    narrow = " and ".join(sorted(set(beyond.values())))
    note = f"{told}: there are numbers that {narrow} cannot hold"
    return replace(plan, pieces=tuple(pieces), notes=(*plan.notes, note))


def _wider(piece: Piece, dtypes: Mapping[str, str]) -> Piece:
    if piece.dtype == "float32":
        raise ConversionError(
            f"tensor {piece.target!r} holds numbers that float32 cannot: {to_keep_float64()}"
        )
    held = {dtypes.get(key, "float32") for key in piece.sources}
    same = held.pop() if len(held) == 1 else "float32"
    return piece.cast(same if same in _NARROW and same != piece.dtype else "float32")
