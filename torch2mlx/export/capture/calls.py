"""Calls of modules under one name each: what torch.export says of them, made plain.

A module that is held at several places is called by the first of its paths, its calls are counted
as one row; what a call writes to is read from the tensor itself by the calls after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch2mlx.export.capture.schemas import turns_in_place, written_by

_SLICE = re.compile(r"slice\((-?\w+), (-?\w+), (-?\w+)\)")


def canonical_paths(model: Any) -> dict[str, str]:
    """Every path of a module -> the first path that leads to the same module.

    A module without tensors has no place that it must share: it is itself wherever its parent is.
    """
    first = {id(module): path for path, module in model.named_modules()}
    found = {"": ""}
    for path, module in model.named_modules(remove_duplicate=False):
        if not path:
            continue
        parent, _, name = path.rpartition(".")
        at = f"{found[parent]}.{name}".lstrip(".")
        found[path] = first[id(module)] if _holds_tensors(module) else at
    return found


def _holds_tensors(module: Any) -> bool:
    held = (*module._parameters.values(), *module._buffers.values())
    inner = (child for child in module._modules.values() if child is not None)
    return any(value is not None for value in held) or any(map(_holds_tensors, inner))


def under_one_name(model: Any, program: Any) -> None:
    """Rewrites, in place, which modules the nodes of a program say they belong to."""
    paths = canonical_paths(model)
    shared = {first for path, first in paths.items() if first != path}
    named = {path for node in _in_order(program.graph_module) for path in _stack_of(node)}
    placed = {path: _within_its_list(model, path) for path in named}
    shared |= {
        paths.get(place, place) for path, place in placed.items() if place not in (path, None)
    }
    counts: dict[str, dict[str, int]] = {}

    def renamed(key: str, path: str) -> tuple[str, str]:
        first = paths.get(path, path)
        if first not in shared:
            return key, first
        calls = counts.setdefault(first, {})
        number = calls.setdefault(key, len(calls))
        return (f"{first}@{number}" if number else first), first

    for node in _in_order(program.graph_module):
        stack = node.meta.get("nn_module_stack")
        if stack and shared:
            changed = {}
            for key, (path, kind) in stack.items():
                place = placed.get(path, path)  # a graph within may be met again
                if place is not None:
                    key, place = renamed(key, place)
                    changed[key] = (place, kind)
            node.meta["nn_module_stack"] = changed
        _read_where_written(node)


def _stack_of(node: Any) -> list[str]:
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]


def _within_its_list(model: Any, path: str) -> str | None:
    """The place of a module in the list that holds it; None of a slice, which has no place.

    torch names what a slice of a list holds after the slice, as in "rows.slice(1, None, None).0",
    when a module is held twice. What a called slice computes is its caller's.
    """
    if "slice(" not in path:
        return path
    module, names, within = model, [], None  # within: the names of the list that a slice has left
    for name in path.split("."):
        part = _SLICE.fullmatch(name)
        if part is not None:
            bounds = slice(*(None if b == "None" else int(b) for b in part.groups()))
            within = (within or list(module._modules))[bounds]
            module = module[bounds]
        else:
            at = list(module._modules).index(name)
            names.append(name if within is None else within[at])
            module, within = module._modules[name], None
    return ".".join(names) if within is None else None


def _in_order(module: Any) -> Iterator[Any]:
    """Nodes of a graph and of those within it, in the order in which they run."""
    for node in module.graph.nodes:
        yield node
        if node.op == "get_attr":
            inner = getattr(module, node.target, None)
            if hasattr(inner, "graph"):
                yield from _in_order(inner)


def _read_where_written(node: Any) -> None:
    """Who reads what an operator in place gives back reads the model's tensor that it wrote to."""
    if type(node.target).__name__ != "OpOverload" or turns_in_place(node.target):
        return
    written = written_by(node.target, node)
    if getattr(written, "op", "") != "placeholder" or written not in node.args:
        return
    for user in list(node.users):
        if user.op == "call_function":
            user.replace_input_with(node, written)
