"""How loops read: their heads, and names of what goes from turn to turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.regions import Region
from torch2mlx.export.structure.loops import Loop, all_reads


def turn_names(
    loops: Iterable[Loop], arguments: Callable[[Region], Sequence[str]]
) -> dict[Node, str]:
    """The name that a value should have, for values that are handed from turn to turn, what they
    are before the first, and values that come from a list."""
    names: dict[Node, str] = {}
    for loop in loops:
        given = _given(loop, arguments)
        for value, _ in loop.each:
            if value in given:
                names[value] = given[value]
        for one in loop.carried:
            name = given.get(one.value) or one.result.name or one.first.name or "x"
            for node in (one.first, one.value, one.result):
                names.setdefault(node, name)
        for grown in loop.grown:
            names[grown.value] = given.get(grown.value) or grown.value.name
    return names


def _given(loop: Loop, arguments: Callable[[Region], Sequence[str]]) -> dict[Node, str]:
    """Of values that calls of a turn are given, the names of their first arguments for them."""
    names: dict[Node, str] = {}
    for item in loop.items:
        if isinstance(item, Region):
            for node, name in zip(all_reads(item), arguments(item), strict=False):
                names.setdefault(node, name)
        elif isinstance(item, Node) and item.op == "layer":
            for node in all_reads(item)[1:]:
                names.setdefault(node, "x")
    return names


def whole_of(values: Sequence[Any], show: Callable[[Any], str]) -> str:
    """The list of what values are in each turn; a list of caches where they are all that are in it,
    one after the other."""
    holders = {v.args[0] for v in values if isinstance(v, Node) and v.op == "entry"}
    places = [v.args[1] if isinstance(v, Node) and v.op == "entry" else None for v in values]
    if len(holders) == 1 and places == list(range(len(values))):
        return show(holders.pop())
    return listed([show(value) for value in values])


def listed(items: Sequence[str]) -> str:
    """A list of expressions; a row of them that comes again is written once."""
    for size in range(1, len(items) // 2 + 1):
        times, rest = divmod(len(items), size)
        if not rest and list(items[:size]) * times == list(items):
            return f"[{', '.join(items[:size])}] * {times}"
    return f"[{', '.join(items)}]"


def head_of(targets: Sequence[str], sources: Sequence[str], count: int) -> str:
    """The first line of a loop."""
    if not targets:
        return f"for _ in range({count}):"
    over = sources[0] if len(sources) == 1 else f"zip({', '.join(sources)})"
    return f"for {', '.join(targets)} in {over}:"
