"""Backward passes whose gradients are of one turn: they need no sum from turn to turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner, called_method
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import may_leave
from torch2mlx.porting.training.manual_sgd import by_hand, plain_lines
from torch2mlx.porting.training.step_scope import Step


def whole_here(
    step: Step, block: Sequence[Any], scan: Scanner, stepped: Callable[[cst.Call], str]
) -> bool:
    """Whether the block of a backward also sets its gradients to zero, and steps, each time.
    `stepped` tells which optimizer a call steps."""
    by_step, _ = _stepped_and_zeroed(block, scan, stepped)
    ends = (i for i, s in enumerate(block) if i > step.place and may_leave(s))
    _, zeroed = _stepped_and_zeroed(block[: next(ends, len(block))], scan, stepped)
    held = all(optimizer in by_step for optimizer in step.optimizers)
    return held and (set(step.optimizers) <= zeroed or set(step.modules) <= zeroed)


def _stepped_and_zeroed(
    block: Sequence[Any], scan: Scanner, stepped: Callable[[cst.Call], str]
) -> tuple[set[str], set[str]]:
    """Which optimizers plain statements step, and whose gradients they set to zero."""
    plain = list(plain_lines(block))
    own, emptied = by_hand(block, scan)
    zeroed = {dotted(c.func.value) for s in plain if (c := called_method(s, "zero_grad"))}
    return {stepped(c) for s in plain for c in scan.calls(s)} | own, zeroed | emptied
