"""Which gradients a call of `clip_grad_norm_` means: all of an optimizer's, or some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls
from torch2mlx.porting.training.optimizers import (
    held_in,
    held_parameters,
    several_lists,
    takes_all,
    whole_names,
)
from torch2mlx.porting.training.step_scope import Scope

KINDS = ("clip_grad_norm_", "clip_grad_value_")


@dataclass(frozen=True)
class Part:
    """Some gradients: the name of their tree, and the paths in it; no paths are all of them."""

    gradients: str
    paths: tuple[str, ...] = ()


def clip_of(statement: Any, names: Names) -> tuple[cst.Call, str] | None:
    """The call in a statement that clips, wherever it stands, and its kind."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return None
    for call in calls(statement):
        name = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        full = names.of(call.func)
        for kind in KINDS:
            if full == f"torch.nn.utils.{kind}" or (name == kind and not full):
                return call, kind
    return None


class Clipped:
    """Answers for one file."""

    def __init__(self, module: cst.Module) -> None:
        self._held, self._whole = held_parameters(module), whole_names(module)
        self._whole.update(dict.fromkeys(several_lists(module), False))

    def part(self, given: Any, scope: Scope) -> Part | None:
        """The gradients of the parameters that an expression gives; None where it is not seen
        which these are."""
        optimizer = _group_owner(given)
        if scope.slots:
            return self._of_slots(given, optimizer, scope)
        if optimizer:
            name = scope.gradients.get(optimizer)
            return Part(name) if name else None
        wanted = _listed(given)
        if wanted is None:
            if not takes_all(given, self._whole):
                return None
            wanted = held_in(given, self._held)
        for step in scope.steps.values():
            whole = step.modules
            paths = [_path(part, whole) for part in wanted]
            if wanted and all(path is not None for path in paths):
                covers = set(whole) <= set(wanted)
                return Part(step.gradients, () if covers else tuple(path for path in paths if path))
        return None

    def of_module(self, module: str, scope: Scope) -> Part | None:
        """The gradients of a module, and where in their tree they are."""
        if module in scope.slots:
            return Part(scope.slots[module])
        for step in scope.steps.values():
            path = _path(module, step.modules)
            if path is not None:
                return Part(step.gradients, (path,) if path else ())
        return None

    def _of_slots(self, given: Any, optimizer: str, scope: Scope) -> Part | None:
        """The gradients of one module, where each has a name for them; of several, the norm would
        be of more than one tree."""
        whole = takes_all(given, self._whole)
        wanted = scope.modules.get(optimizer, []) if optimizer else []
        wanted = held_in(given, self._held) if whole and not optimizer else wanted
        alone = scope.slots.get(wanted[0]) if len(wanted) == 1 else None
        return Part(alone) if alone else None


def _path(wanted: str, whole: Sequence[str]) -> str | None:
    """Where in the tree the gradients of a module or parameter are; "" for the whole tree."""
    for i, module in enumerate(whole):
        head = f"modules_.{i}" if len(whole) > 1 else ""
        if wanted == module:
            return head
        if wanted.startswith(f"{module}."):
            rest = wanted[len(module) + 1 :]
            return f"{head}.{rest}" if head else rest
    return None


def _listed(node: Any) -> list[str] | None:
    """Parameters that are listed by name, or that one stands for; None for other expressions."""
    parts = [e.value for e in node.elements] if isinstance(node, (cst.List, cst.Tuple)) else [node]
    if not parts or not all(isinstance(p, cst.Attribute) and dotted(p) for p in parts):
        return None
    return [dotted(part) for part in parts]


def _group_owner(node: Any) -> str:
    """The optimizer of `optimizer.param_groups[0]["params"]`, and of what amp calls it; "" of
    other expressions."""
    while isinstance(node, cst.Subscript):
        node = node.value
    if isinstance(node, cst.Attribute) and node.attr.value == "param_groups":
        return dotted(node.value)
    named = isinstance(node, cst.Call) and dotted(node.func).endswith("master_params")
    return dotted(node.args[0].value) if named and node.args else ""
