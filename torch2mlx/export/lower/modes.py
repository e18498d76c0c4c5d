"""Modules in another mode than the model: batch norms that are kept as they are while the rest is
trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def other_modes(tree: Any, written: Any) -> Iterator[tuple[str, bool]]:
    """Paths of modules, outermost first, whose mode is not that of the module around them.

    `written` tells whether a module stands in the file as one that has a mode.
    """
    modes = {"": bool(tree.model.training)}
    for path, module in tree.modules.items():
        if not path or tree.canonical(path) != path:
            continue
        around = modes[_above(path, modes)]
        if bool(module.training) == around or not written(path):
            continue
        modes[path] = not around
        yield path, modes[path]


def _above(path: str, modes: Any) -> str:
    """The nearest module around a path that has a mode."""
    while path:
        path = path.rpartition(".")[0]
        if path in modes:
            return path
    return ""


def put_in_modes(model: Any, modes: Any) -> None:
    """Puts modules of the emitted tree, by path, into modes of their own."""
    for path, mode in modes:
        found = model
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        found.train(mode)
