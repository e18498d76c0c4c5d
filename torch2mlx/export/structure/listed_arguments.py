"""Arguments of a forward that are lists of arrays, joined in it: they stay lists, so that calls
with lists of several lengths are calls of one method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.capture.trace import Call
from torch2mlx.export.ir.nodes import Node, changed, learn, replace
from torch2mlx.export.ir.regions import Region, reads_of

_JOIN = "mx.concatenate"


@dataclass(frozen=True)
class _Joined:
    """A call that joins a list: the list's name, what is in it, and the statement; None where there
    is one array, which need not be joined."""

    name: str
    arrays: tuple[Node, ...]
    statement: Node | None

    def way(self) -> Any:
        """How arrays are joined."""
        assert self.statement is not None
        return self.name, repr(self.statement.args[1:]), repr(self.statement.kwargs)


def with_lists(
    root: Region, kind: Callable[[str], type], calls: Mapping[str, Sequence[Call]]
) -> None:
    """Makes lists of the arguments of all calls of a class, where all are called so."""
    groups: dict[type, list[Region]] = {}
    for region in root.regions():
        if region.parent is not None and region.callee is None:
            groups.setdefault(kind(region.module), []).append(region)
    for regions in groups.values():
        found = [_joined(region, calls) for region in regions]
        joined = [one for one in found if one is not None]
        ways = {one.way(): one for one in joined if one.statement is not None}
        if len(joined) == len(regions) > 1 and len(ways) == 1:
            (like,) = ways.values()
            for region, one in zip(regions, joined, strict=True):
                _list(region, one, like)


def _joined(region: Region, calls: Mapping[str, Sequence[Call]]) -> _Joined | None:
    """What a call joins; None where it is not given one list, or does more with it."""
    told, number = calls.get(region.module, ()), int(region.path.partition("@")[2] or 0)
    arguments = told[number].arguments if number < len(told) else {}
    lists = [name for name, value in arguments.items() if type(value) is tuple]
    if len(lists) != 1:
        return None
    count, inputs = len(arguments[lists[0]]), [n for n in region.inputs if n.is_array]
    if count == 1:
        return _Joined(lists[0], tuple(inputs), None) if len(inputs) == 1 else None
    for item in region.items:
        if isinstance(item, Node) and item.op == _JOIN and len(item.args[0]) == count:
            arrays = tuple(item.args[0])
            reads = [read for other in region.items for read in reads_of(other) if read in arrays]
            whole = len(set(arrays)) == count == len(reads) and set(arrays) <= set(inputs)
            return _Joined(lists[0], arrays, item) if whole else None
    return None


def _list(region: Region, one: _Joined, like: _Joined) -> None:
    """Makes a list of the arguments that a call joins."""
    assert like.statement is not None and region.parent is not None
    inside = Node("list", (), {}, tuple(a.value for a in one.arrays), name=one.name)
    if one.statement is None:
        (array,) = one.arrays
        joined = changed(like.statement, (inside, *like.statement.args[1:]), like.statement.kwargs)
        learn(joined, value=array.value, dims=array.dims, scope=(), name="")
        for item in region.items:
            read_instead(item, array, joined)
        region.items.insert(0, joined)
    else:
        object.__setattr__(one.statement, "args", (inside, *one.statement.args[1:]))
    given = dict(zip(region.inputs, region.given, strict=True))
    outside = Node("list", (tuple(given[a] for a in one.arrays),), {}, inside.value, name=one.name)
    at = region.inputs.index(one.arrays[0])
    rest = [(n, g) for n, g in given.items() if n not in one.arrays]
    rest.insert(at, (inside, outside))
    region.inputs, region.given = [n for n, _ in rest], [g for _, g in rest]
    items = region.parent.items
    items.insert(items.index(region), outside)


def read_instead(item: Node | Region, old: Node, new: Node) -> None:
    """Makes a statement read another value."""

    def change(node: Node) -> Node:
        return new if node is old else node

    if isinstance(item, Region):
        item.given = [change(node) for node in item.given]
    else:
        object.__setattr__(item, "args", replace(item.args, change))
        object.__setattr__(item, "kwargs", replace(item.kwargs, change))
