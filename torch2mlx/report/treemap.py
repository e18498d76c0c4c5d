"""A treemap of a module tree: the largest parts, as rectangles that are near to squares.

The rows of rectangles are those of Bruls, Huizing and van Wijk, "Squarified treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch2mlx.analysis.records import Node

#: Rectangles of a map: more could not be read or touched.
MOST = 36
#: Statuses from harmless to what stops a conversion; a part shows the worst that is in it.
WORST = ("container", "own", "mapped", "kit", "custom", "unmapped", "refused")


@dataclass(frozen=True)
class Area:
    """A part of the model: its module, all its parameters, and the worst status inside."""

    path: str
    cls: str
    status: str
    parameters: int


@dataclass(frozen=True)
class Box:
    """An area's rectangle, in hundredths of the map's width and height."""

    area: Area
    x: float
    y: float
    width: float
    height: float


def areas(nodes: Sequence[Node], most: int = MOST) -> list[Area]:
    """Parts that cover the model, the largest first: modules are opened while there is room."""
    children: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        children.setdefault(node.parent, []).append(i)
    whole = [node.parameters for node in nodes]
    worst = [WORST.index(node.status) for node in nodes]
    for i in reversed(range(len(nodes))):  # children come after their parents
        if nodes[i].parent >= 0:
            whole[nodes[i].parent] += whole[i]
            if whole[i]:
                worst[nodes[i].parent] = max(worst[nodes[i].parent], worst[i])
    found = [_area(nodes, i, whole[i], worst[i]) for i in _opened(nodes, children, whole, most)]
    return sorted((area for area in found if area.parameters), key=lambda a: -a.parameters)


def _opened(
    nodes: Sequence[Node], children: dict[int, list[int]], whole: list[int], most: int
) -> list[int]:
    """Modules that stand for all below them; negative (-1 - i) where a module's own tensors do."""
    shown, closed = list(children.get(-1, [])), set[int]()
    while True:
        ways = [i for i in shown if i >= 0 and i not in closed and children.get(i)]
        if not ways:
            return shown
        widest = max(ways, key=lambda i: whole[i])
        inner = [i for i in children[widest] if whole[i]]
        own = [-1 - widest] if nodes[widest].parameters else []
        if len(shown) - 1 + len(inner) + len(own) > most:
            closed.add(widest)
            continue
        shown.remove(widest)
        shown += inner + own


def _area(nodes: Sequence[Node], index: int, whole: int, worst: int) -> Area:
    if index < 0:
        node = nodes[-1 - index]
        return Area(node.path, f"{node.cls}, its own", node.status, node.parameters)
    return Area(nodes[index].path, nodes[index].cls, WORST[worst], whole)


def squarified(found: Sequence[Area], width: float, height: float) -> list[Box]:
    """A rectangle for each area on a map of this width and height, in any unit; areas are given
    largest first."""
    scale = width * height / (sum(area.parameters for area in found) or 1)
    sizes = [area.parameters * scale for area in found]
    boxes: list[Box] = []
    x = y = 0.0
    start = 0
    while start < len(sizes):
        side = min(width - x, height - y)
        end = start + 1
        while end < len(sizes) and _worst(sizes[start : end + 1], side) <= _worst(
            sizes[start:end], side
        ):
            end += 1
        thick, along = sum(sizes[start:end]) / (side or 1), 0.0
        upright = width - x >= height - y
        for area, size in zip(found[start:end], sizes[start:end], strict=True):
            long = size / (thick or 1)
            place = (x, y + along, thick, long) if upright else (x + along, y, long, thick)
            boxes.append(_percent(area, place, width, height))
            along += long
        x, y = (x + thick, y) if upright else (x, y + thick)
        start = end
    return boxes


def _worst(sizes: Sequence[float], side: float) -> float:
    """The longest of the rectangles in a row, as length over breadth."""
    total = sum(sizes)
    return max(
        max(side * side * size / total**2, total**2 / (side * side * size or 1)) for size in sizes
    )


def _percent(
    area: Area, place: tuple[float, float, float, float], width: float, height: float
) -> Box:
    x, y, w, h = place
    return Box(area, 100 * x / width, 100 * y / height, 100 * w / width, 100 * h / height)
