"""Classes and functions of the file: which of them a place is in, and what they become."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.apply_layout import headed, placed_class
from torch2mlx.porting.rules.place import Place, entering, leaving
from torch2mlx.porting.rules.text import expression

_OPTIMIZER = ("torch.optim.Optimizer", "torch.optim.optimizer.Optimizer")


@entering(cst.Import, cst.ImportFrom)
def _before_import(at: Place, node: Any) -> bool:
    """Imports are written anew when everything else is."""
    return False


@entering(cst.ClassDef)
def _before_class_def(at: Place, node: cst.ClassDef) -> None:
    at.classes.append(node.name.value)


@leaving(cst.ClassDef)
def _class_def(at: Place, original: cst.ClassDef, updated: cst.ClassDef) -> Any:
    at.classes.pop()
    placed_class(at, original)
    if any(at.file.names.of(b.value) in _OPTIMIZER for b in original.bases):
        at.current = original
        at.refuse(original, "your own optimizer: subclass mlx.optimizers.Optimizer")
        base = cst.Arg(expression("kit.optimizers.Unported"))  # defined, and no more
        return updated.with_changes(bases=[base])
    return updated


@entering(cst.FunctionDef)
def _before_function_def(at: Place, node: cst.FunctionDef) -> None:
    at.functions.append(node.name.value)
    at.bodies.append(node)


@leaving(cst.FunctionDef)
def _function_def(at: Place, original: cst.FunctionDef, updated: Any) -> Any:
    name = at.functions.pop()
    at.bodies.pop()
    updated = headed(at, original, updated)
    if name == "forward" and at.in_module() and not at.functions:
        at.change(original, "forward", "MLX's modules are called")
        return updated.with_changes(name=cst.Name("__call__"))
    return updated
