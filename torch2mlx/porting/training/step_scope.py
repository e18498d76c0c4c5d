"""A function whose training steps are rewritten, and one such step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.filled import fresh_name


@dataclass
class Step:
    """One `backward` in a block: its place, the loss, and who is trained with its gradient."""

    place: int
    loss: cst.BaseExpression
    optimizers: list[str]
    modules: list[str]
    gradients: str = "grads"
    adds: bool = False


@dataclass
class Scope:
    """A function (or the file) being rewritten."""

    node: Any
    used: set[str] = field(default_factory=set)
    gradients: dict[str, str] = field(default_factory=dict)  # optimizer -> name
    accumulated: set[str] = field(default_factory=set)  # gradients that start as None
    zeroed: set[str] = field(default_factory=set)  # of these, what a statement sets to None
    slots: dict[str, str] = field(default_factory=dict)  # module -> its gradients, where shared
    #: Gradients that one call of the function leaves to the next -> the modules that keep them.
    left: dict[str, list[str]] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)  # gradients of modules that each call makes anew
    unset: set[str] = field(default_factory=set)  # what steps take and not every way sets before
    modules: dict[str, list[str]] = field(default_factory=dict)  # optimizer -> modules
    unclear: set[str] = field(default_factory=set)  # optimizers that train some of these, or all
    several: set[str] = field(default_factory=set)  # optimizers' names that are given others later
    steps: dict[cst.CSTNode, Step] = field(default_factory=dict)  # by statement
    #: Statement that runs again in a function -> the name of what its first run started from.
    repeated: dict[cst.CSTNode, str] = field(default_factory=dict)

    def fresh(self, name: str) -> str:
        """A name that the function does not use."""
        return fresh_name(name, self.used)
