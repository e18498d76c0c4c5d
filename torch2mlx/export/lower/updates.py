"""Where the new values of buffers are written: at the end of the call that makes them, if no one
else reads the old ones; at the end of the model's own otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch2mlx.export.ir.builder import Refuse
from torch2mlx.export.ir.nodes import Frame, Node, leaves, operands


def write_back(state: Any, updates: Iterable[tuple[str, Any]], results: Any) -> None:
    """Adds what the file assigns to its buffers."""
    b, stored = state.builder, state.stored
    root = b.scope
    kept = list(_without_counters(state, list(updates), results))
    for key, value in kept:
        b.scope = root
        mark = len(b.nodes)
        try:
            stored.update(b, key, value)
        except Refuse as problem:
            raise Refuse(f"what the forward writes to {key}: {problem}", problem.code) from problem
        made = b.nodes[mark:]
        old = [n for n in b.nodes[:mark] if _shows(n, made[-1].args[0])]
        frames = _home(state, old, value)
        if frames is None:
            continue
        del b.nodes[mark:]
        at = 1 + max(i for i, n in enumerate(b.nodes) if n.scope[: len(frames)] == frames)
        node = made[-1]
        b.nodes.insert(at, Node(node.op, node.args, {}, None, None, frames))


def _shows(node: Node, target: str) -> bool:
    return node.op in ("param", "constant") and node.args[0] == target


def _home(state: Any, old: list[Node], value: Any) -> tuple[Frame, ...] | None:
    """The innermost call, under the module that has the buffer, that makes the value and whose
    nodes alone read the old one."""
    b, tree = state.builder, state.tree
    if not old or not isinstance(value, Node):
        return None
    target = str(old[0].args[-1])
    reads = [n for n in b.nodes if any(o in old for o in operands(n))]
    shared = value.scope
    for node in reads:
        while node.scope[: len(shared)] != shared:
            shared = shared[:-1]
    while shared and not _under(target, tree.owner(shared[-1].path.split("@")[0])):
        shared = shared[:-1]
    return shared if shared and shared[-1].path else None


def _under(target: str, owner: str) -> bool:
    return not owner or target.startswith(f"{owner}.")


def _without_counters(state: Any, updates: list[tuple[str, Any]], results: Any) -> Any:
    """Updates without those of buffers that `convert` leaves out and nothing else reads: the
    number of batches that a batch norm has seen."""
    recipes = state.stored.recipes
    dropped = {key for key, _ in updates if recipes.get(key, ("",))[0] == "s"}
    needed: set[Node] = set()
    waiting = [n for n in leaves(tuple(_flat(results)))]
    waiting += [n for key, value in updates if key not in dropped for n in leaves(value)]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += operands(node)
    for key, value in updates:
        if key not in dropped or state.stored._nodes.get(key) in needed:
            yield key, value


def _flat(results: Any) -> Any:
    for result in results:
        yield tuple(result) if isinstance(result, list) else result
