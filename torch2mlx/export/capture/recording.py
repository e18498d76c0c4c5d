"""Which of two programs a model is: the one it runs while gradients are recorded, or the other.

A model is traced with gradients on: without, torch.export drops its no_grad regions, which leaves
outputs right and gradients wrong. A forward that asks whether gradients are recorded is traced
once more without, and where that is another program, the model's mode chooses.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch2mlx.errors import ExportError
from torch2mlx.export.capture.flags import Asked, watched_flags
from torch2mlx.export.capture.freedom import Way
from torch2mlx.export.capture.neutral import neutral
from torch2mlx.export.capture.trace import Traced, trace

_REGION = "wrap_with_set_grad_enabled"
#: What torch says of writes that it refuses only while gradients are recorded.
_IN_PLACE = re.compile(r"leaf Variable that requires grad|multiple views.*modified inplace")


def traced_in_mode(model: Any, args: Any, kwargs: Any, way: Way) -> Traced:
    """The program of a model in its mode, with notes of what it asked torch's global state.

    Raises ExportError as `trace` does.
    """

    with neutral(), watched_flags(model) as asked:
        traced = _recorded(model, args, kwargs, way)
        if asked.gradients:
            traced = _chosen(traced, asked, (model, args, kwargs, way))
    return replace(traced, notes=(*traced.notes, *asked.notes()))


def _recorded(model: Any, args: Any, kwargs: Any, way: Way) -> Traced:
    """The program with gradients; without, where torch has none: of a forward, in evaluation,
    that writes to what torch does not let it write to while gradients are recorded."""
    import torch

    try:
        with torch.enable_grad():
            return trace(model, args, kwargs, way)
    except ExportError as error:
        if model.training or not _IN_PLACE.search(str(error)):
            raise
    with torch.no_grad():
        traced = trace(model, args, kwargs, way)
    note = "the forward runs without gradients alone, and is translated as in evaluation"
    return replace(traced, notes=(*traced.notes, note))


def _chosen(traced: Traced, asked: Asked, how: Any) -> Traced:
    """The program with gradients of a model in training, the other one in evaluation."""
    import torch

    model, places = how[0], ", ".join(asked.gradients)
    try:
        with torch.no_grad():
            other = trace(*how)
    except ExportError as error:
        if model.training:
            note = f"cannot be traced without gradients, of which it asks at {places}"
            return replace(traced, graded=True, notes=(*traced.notes, note))
        raise ExportError(
            f"the forward asks whether gradients are recorded ({places}), and what it does without "
            f"them, in evaluation, cannot be traced: {error}"
        ) from error
    if steps(traced.program.graph_module) == steps(other.program.graph_module):
        return traced
    told = "recorded, as in training" if model.training else "not recorded, as in evaluation"
    note = f"the forward asks whether gradients are recorded ({places}): translated as if {told}"
    chosen = replace(traced, graded=True) if model.training else other
    return replace(chosen, notes=(*chosen.notes, note))


def steps(module: Any) -> list[Any]:
    """What a graph does, whatever its nodes are called and wherever gradients are recorded."""
    found: list[Any] = []
    known: dict[Any, Any] = {}
    _walk(module, found, known)
    return found


def _walk(module: Any, found: list[Any], known: dict[Any, Any]) -> Any:
    """Adds a graph's steps; gives its results. `known` holds what each node stands for."""
    for node in module.graph.nodes:
        if node.op == "placeholder":
            known.setdefault(node, ("input", len(known)))
        elif node.op == "get_attr":
            known[node] = _held(getattr(module, node.target, None), node.target)
        elif node.op == "output":
            return _told(node.args[0], known)
        elif _REGION in str(getattr(node.target, "_name", "")):
            inner, given = known[node.args[1]][1], node.args[2:]
            places = [n for n in inner.graph.nodes if n.op == "placeholder"]
            known.update((p, _told(g, known)) for p, g in zip(places, given, strict=True))
            known[node] = _walk(inner, found, known)
        elif node.target is operator.getitem and isinstance(known.get(node.args[0]), tuple):
            known[node] = known[node.args[0]][node.args[1]]
        else:
            found.append((str(node.target), _told(node.args, known), _told(node.kwargs, known)))
            known[node] = len(found)
    return ()


def _held(value: Any, name: str) -> Any:
    """What an attribute of a graph stands for: a graph within it, or a constant."""
    return ("graph", value) if hasattr(value, "graph") else ("held", name)


def _told(value: Any, known: Mapping[Any, Any]) -> Any:
    """An argument with steps in place of nodes."""
    if hasattr(value, "users"):
        told = known[value]
        graph = isinstance(told, tuple) and told[:1] == ("graph",)
        return ("graph", steps(told[1])) if graph else told
    if isinstance(value, (list, tuple)):
        return tuple(_told(item, known) for item in value)
    if isinstance(value, Mapping):
        return tuple((key, _told(item, known)) for key, item in value.items())
    return value if isinstance(value, (int, float, bool, str, type(None))) else str(value)
