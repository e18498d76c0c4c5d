"""Names of a method's arguments: those of the forward that torch ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch2mlx.export.capture.trace import Call
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.provenance import hints
from torch2mlx.export.ir.regions import Region


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


def _sizes(node: Any) -> list[int] | None:
    """Lengths of a graph node's axes, the shortest first; None where they are not known."""
    value = None if node is None else node.meta.get("val")
    shape = hints(value)[0] if hasattr(value, "shape") else None
    return None if shape is None else sorted(shape)
