"""Passes over the lowered program, each on its own: what a reader would not miss goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch2mlx.graph.ir import Program
from torch2mlx.graph.tidy.causal import with_causal_masks
from torch2mlx.graph.tidy.dead import without_dead
from torch2mlx.graph.tidy.fast import with_fast
from torch2mlx.graph.tidy.gradients import with_index_stops, without_idle_stops
from torch2mlx.graph.tidy.layout import channels_last
from torch2mlx.graph.tidy.moves import without_idle_moves
from torch2mlx.graph.tidy.noops import without_noops
from torch2mlx.graph.tidy.rotary import with_rope
from torch2mlx.graph.tidy.sink import with_sunk

BEFORE = (without_dead, without_noops, without_idle_stops, without_noops)
AFTER = (channels_last, without_noops, without_noops, with_fast, with_causal_masks, without_dead)
AFTER += (with_index_stops, without_idle_moves, without_noops, with_sunk)


def tidy(program: Program, constants: Mapping[str, Any]) -> Program:
    """The program after all passes; `constants` has torch's tensors of constant nodes."""
    functions = tuple(replace(f, program=tidy(f.program, constants)) for f in program.functions)
    for one in BEFORE:
        program = one(program)
    program = with_rope(program, constants)
    for one in AFTER:
        program = one(program)
    return replace(program, functions=functions)


__all__ = ["tidy"]
