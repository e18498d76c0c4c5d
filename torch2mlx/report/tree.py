"""A module tree as a page draws it: branches that open and close, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch2mlx.analysis.records import Node

#: Levels that are drawn inside one another; deeper ones stand beside each other.
_DEEPEST = 60
#: Levels that are open to see.
_OPEN = 2


@dataclass(frozen=True)
class Mark:
    """One step of drawing: "open" a branch, draw a "leaf", "close" the branch that is open."""

    what: str
    name: str = ""
    cls: str = ""
    status: str = "own"
    parameters: int = 0
    opened: bool = False
    note: str = ""


def marks(nodes: Sequence[Node], notes: Mapping[str, str] | None = None) -> Iterator[Mark]:
    """The steps that draw a tree; `notes` stand beside modules, by their paths."""
    parents = {node.parent for node in nodes}
    open_: list[int] = []
    for index, node in enumerate(nodes):
        ends = node.parent in open_ or node.parent < 0
        while ends and open_ and open_[-1] != node.parent:
            yield Mark("close")
            open_.pop()
        branch = index in parents and len(open_) < _DEEPEST
        yield Mark(
            "open" if branch else "leaf",
            node.path.rpartition(".")[2] or "(root)",
            node.cls,
            node.status,
            node.parameters,
            len(open_) < _OPEN,
            (notes or {}).get(node.path, ""),
        )
        if branch:
            open_.append(index)
    yield from (Mark("close") for _ in open_)
