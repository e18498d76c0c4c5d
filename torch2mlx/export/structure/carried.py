"""Which values go from one item of a list of modules to the next: they keep one name, so that
loops show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch2mlx.export.ir.nodes import Node, leaves
from torch2mlx.export.ir.regions import Region


@dataclass(frozen=True)
class Turns:
    """`names` are wanted for results; `starts` are values that get a name before the first turn."""

    names: dict[Node, str]
    starts: dict[Node | Region, list[tuple[Node, str]]]


def turns_of(region: Region, argument_names: Callable[[Region], Sequence[str]]) -> Turns:
    """Carried values of the region's calls of list items."""
    chains: dict[str, list[Node | Region]] = {}
    for item in region.items:
        parent = _list_of(item)
        if parent is not None:
            chains.setdefault(parent, []).append(item)
    names: dict[Node, str] = {}
    starts: dict[Node | Region, list[tuple[Node, str]]] = {}
    for chain in chains.values():
        if len(chain) < 2:
            continue
        for place, result in _carried(chain):
            wanted = _name(chain[1], place, argument_names)
            for item in chain:
                if result < len(_results(item)):
                    names[_results(item)[result]] = wanted
            starts.setdefault(chain[0], []).append((_given(chain[0])[place], wanted))
    return Turns(names, starts)


def _list_of(item: Node | Region) -> str | None:
    """The list that a called module is an item of."""
    if isinstance(item, Region):
        path = item.module if item.callee is None else ""
    elif item.op == "layer" and item.is_array:
        path = str(item.args[0].args[0])
    else:
        return None
    above, _, name = path.rpartition(".")
    return above if name.isdigit() else None


def _given(item: Node | Region) -> list[Node]:
    return item.inputs if isinstance(item, Region) else list(leaves(item.args[1:]))


def _results(item: Node | Region) -> list[Node]:
    return item.outputs if isinstance(item, Region) else [item]


def _carried(chain: Sequence[Node | Region]) -> list[tuple[int, int]]:
    """(argument, result) pairs: each item's argument is the result of the one before."""
    found: set[tuple[int, int]] | None = None
    for before, after in pairwise(chain):
        given, results = _given(after), _results(before)
        now = {(i, results.index(n)) for i, n in enumerate(given) if n in results}
        found = now if found is None else found & now
    counts = {len(_given(item)) for item in chain} | {0}
    return sorted(found or ()) if len(counts) == 2 else []


def _name(
    item: Node | Region, place: int, argument_names: Callable[[Region], Sequence[str]]
) -> str:
    if isinstance(item, Region):
        names = argument_names(item)
        return names[place] if place < len(names) else "x"
    return "x"
