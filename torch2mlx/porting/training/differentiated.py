"""Which functions of a file a gradient is taken of."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.traversal import calls, of_kinds


def traced(module: Any, made: set[str]) -> set[str]:
    """Names of functions that a gradient is taken of: those, forwards, and what they call."""
    bodies: dict[str, list[Any]] = {}
    for node in of_kinds(module, cst.FunctionDef):
        bodies.setdefault(node.name.value, []).append(node)
    found, waiting = set(), [*made, "forward"]
    while waiting:
        name = waiting.pop()
        if name in found or name not in bodies:
            continue
        found.add(name)
        for call in (c for body in bodies[name] for c in calls(body)):
            named = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
            waiting.append(getattr(named, "value", ""))
    return found
