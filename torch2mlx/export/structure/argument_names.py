"""Names of a method's arguments, arrays and lengths: those of the forward that torch ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch2mlx.export.capture.trace import Call
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.provenance import expression_of, hints
from torch2mlx.export.ir.regions import KnownNumbers, Region


def argument_names(
    region: Region, call: Call, aliases: Mapping[str, str], graph: Mapping[str, Any]
) -> dict[Node, str]:
    """The forward's name for each value that comes into a region as one of its arguments.

    A value is an argument when the program's node that made it was recorded as one. What passes
    have laid out anew since (channels moved to the end, a transpose that is gone) is told by the
    lengths of its axes, in any order, where these fit one argument and one value alone.
    """
    origins = {
        aliases.get(origin, origin): name
        for name, origin in reversed(tuple(call.arguments.items()))
        if isinstance(origin, str)
    }
    found = {node: origins[node.origin] for node in region.inputs if node.origin in origins}
    left = [n for n in region.inputs if n.is_array and n.op != "module" and n not in found]
    lengths = _handed(call)
    for node in region.inputs:
        value = graph[node.origin].meta.get("val") if node.origin in graph else None
        name = lengths.get(expression_of(value)) if not node.is_array else None
        if name is not None and node not in found:
            found[node] = name
    taken = set(found.values())
    sizes = {
        name: _sizes(graph.get(origin)) for origin, name in origins.items() if name not in taken
    }
    for node in left:
        fitting = [name for name, known in sizes.items() if known == sorted(node.shape)]
        alike = [other for other in left if sorted(other.shape) == sorted(node.shape)]
        if len(fitting) == 1 and len(alike) == 1:
            found[node] = fitting[0]
    return found


def known_numbers(calls: Mapping[str, Sequence[Call]], graph: Mapping[str, Any]) -> KnownNumbers:
    """What torch knows of the numbers of a program, and which of them calls of modules are
    handed."""
    pairs = ((name, expression_of(node.meta.get("val"))) for name, node in graph.items())
    expressions = {name: expression for name, expression in pairs if expression is not None}
    handed = {}
    for path, several in calls.items():
        for number, call in enumerate(several):
            found = _handed(call)
            if found:
                handed[f"{path}@{number}" if number else path] = found
    return KnownNumbers(expressions, handed)


def _handed(call: Call) -> dict[Any, str]:
    """Names of the lengths that a call is handed, the first of each, by torch's expression."""
    pairs = ((expression_of(length), name) for name, length in reversed(call.numbers))
    return {expression: name for expression, name in pairs if expression is not None}


def _sizes(node: Any) -> list[int] | None:
    """Lengths of a graph node's axes, the shortest first; None where they are not known."""
    value = None if node is None else node.meta.get("val")
    shape = hints(value)[0] if hasattr(value, "shape") else None
    return None if shape is None else sorted(shape)
