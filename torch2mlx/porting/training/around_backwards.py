"""Where a statement stands, before or behind the backwards that give some gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import called_method
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.training.step_scope import Scope

Blocks = Mapping[cst.CSTNode, Sequence[Any]]  # a step's statement -> the block that it is in


def is_behind(
    blocks: Blocks, statement: Any, gradients: str, scope: Scope, held: bool = False
) -> bool:
    """Whether a statement stands behind a backward that gives some gradients, in its block;
    `held`: and before what sets them to zero."""
    for node, step in scope.steps.items():
        given = {step.gradients, *(scope.slots.get(m, "") for m in step.modules)}
        behind = blocks[node][step.place + 1 :] if gradients in given else ()
        around = (i for i, s in enumerate(behind) if any(p is statement for p in walk(s)))
        place = next(around, -1)
        if place >= 0:
            zeroed = any(called_method(s, "zero_grad") for s in behind[:place])
            return not (held and zeroed)
    return False


def is_before(blocks: Blocks, statement: Any, gradients: str, scope: Scope) -> bool:
    """Whether a statement stands before the backwards that give some gradients, in the block of
    one, and none of them adds to what an earlier one left."""
    steps = [(n, s) for n, s in scope.steps.items() if s.gradients == gradients]
    before = (
        any(part is statement for s in blocks[n][: step.place] for part in walk(s))
        for n, step in steps
    )
    return bool(steps) and all(before) and not any(step.adds for _, step in steps)
