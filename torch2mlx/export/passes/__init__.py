"""Passes over the lowered program, each on its own: what a reader would not miss goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch2mlx.export.ir.dead import without_dead
from torch2mlx.export.ir.nodes import Program
from torch2mlx.export.passes.causal import with_causal_masks
from torch2mlx.export.passes.experts import with_sorted_rows
from torch2mlx.export.passes.fast import with_fast
from torch2mlx.export.passes.gradients import with_index_stops, without_idle_stops
from torch2mlx.export.passes.io_layout import with_last_ends
from torch2mlx.export.passes.layout import channels_last
from torch2mlx.export.passes.moves import without_idle_moves
from torch2mlx.export.passes.noops import without_noops
from torch2mlx.export.passes.rotary import with_rope
from torch2mlx.export.passes.sink import (
    with_first_moves_outside,
    with_last_moves_outside,
    with_sunk,
)
from torch2mlx.export.passes.slices import with_slices_joined

BEFORE = (without_dead, without_noops, without_idle_stops, without_noops)
AFTER = (
    *(without_noops, without_noops, with_fast, with_causal_masks, with_sorted_rows, without_dead),
    *(with_index_stops, without_idle_moves, without_noops, with_slices_joined, without_dead),
    *(with_sunk, with_last_moves_outside, with_first_moves_outside),
)


def tidy(program: Program, constants: Mapping[str, Any], last_ends: bool = False) -> Program:
    """The program after all passes; `constants` has torch's tensors of constant nodes.

    `last_ends`: arguments and results have channels last where the model has them so within.
    """
    functions = tuple(replace(f, program=tidy(f.program, constants)) for f in program.functions)
    for one in BEFORE:
        program = one(program)
    program = channels_last(with_rope(program, constants))
    if last_ends:
        program = with_last_ends(program)
    for one in AFTER:
        program = one(program)
    return replace(program, functions=functions)


__all__ = ["tidy"]
