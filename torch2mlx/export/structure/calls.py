"""Which method of its class each call of a module is, and what the method does.

Calls of one torch class are compared by their outlines. One that gives back less than the others
gives back as much as they do: the last block of a model often drops what no block after it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.outline import Outline, Outliner, Step
from torch2mlx.export.ir.regions import Region
from torch2mlx.export.structure.attribute_paths import Paths
from torch2mlx.export.structure.entrances import Entrances

#: A call that gives back more than this is not compared with those that give back less.
_MOST_RESULTS = 8


class Calls:
    """Outlines and names of methods. `kind` gives the class of the module at a
    path, that of None where there is none."""

    def __init__(
        self, root: Region, paths: Paths, kind: Callable[[str], type], entrances: Entrances
    ) -> None:
        self._paths, self._kind, self._entrances = paths, kind, entrances
        self.outlines: dict[Region, Outline] = {}
        #: Of calls that were given more results: what they do themselves.
        self.own: dict[Region, Outline] = {}
        self.names: dict[Region, str] = {}
        #: Module -> its methods: name, and the call that stands for it.
        self.methods: dict[str, list[tuple[str, Region]]] = {}
        for regions in _by_height(root):
            for region in regions:
                self.outlines[region] = self._outline(region)
            for alike in self._by_kind(regions):
                self._even(alike)
            for region in regions:
                self._name(region)

    def callee(self, region: Region) -> str:
        """What a call calls, as its caller's method names it; `self` stands for a module that the
        caller does not hold."""
        assert region.parent is not None
        name = self.names[region]
        held = region.callee is None
        called = self._paths.relative(region.owner, region.parent) if held else "self"
        return called if name == "__call__" else f"{called}.{name}"

    def _outline(self, region: Region) -> Outline:
        own = lambda node: self._paths.of(node, region)  # noqa: E731
        outliner = Outliner(region.inputs, own, self.callee)
        return outliner.outline(region.items, region.outputs)

    def _by_kind(self, regions: list[Region]) -> Iterator[list[Region]]:
        kinds: dict[type, list[Region]] = {}
        for region in regions:
            if region.parent is not None:
                kinds.setdefault(self._kind(region.module), []).append(region)
        yield from kinds.values()

    def _even(self, regions: list[Region]) -> None:
        """Gives calls as many results as others of their class have."""
        most = max(len(region.outputs) for region in regions)
        if most == min(len(region.outputs) for region in regions) or most > _MOST_RESULTS:
            return
        by_shape = {self.outlines[r].shape(): (r, self.outlines[r]) for r in regions}
        for region in regions:
            own = self.outlines[region]
            wider = (
                outline
                for other, outline in by_shape.values()
                if len(outline.outputs) > len(own.outputs) and self._holds(region, other)
            )
            found = next((f for f in (_within(own, other) for other in wider) if f), None)
            if found is not None:
                self.outlines[region], places = found
                results = dict(
                    zip(places, zip(region.outputs, own.outputs, strict=True), strict=True)
                )
                spread = [
                    results.get(i, (Node("unused"), ("none",)))
                    for i in range(len(found[0].outputs))
                ]
                region.outputs = [node for node, _ in spread]
                self.own[region] = replace(own, outputs=tuple(ref for _, ref in spread))

    def _holds(self, region: Region, other: Region) -> bool:
        """Whether the module of a call has all the modules that another call of its class calls."""
        above = f"{other.module}."
        called = (module for module in _called(other) if module.startswith(above))
        return all(
            self._kind(f"{region.module}.{module.removeprefix(above)}") is self._kind(module)
            for module in called
        )

    def _name(self, region: Region) -> None:
        """Finds the method that does the same, or adds one."""
        known = self.methods.setdefault(region.module, [])
        exact = self.outlines[region].exact()
        for i, (name, other) in enumerate(known):
            if self.outlines[other].exact() == exact:
                self.names[region] = name
                if other.leaves_out():
                    known[i] = (name, region)
                return
        name = self._entrances.name(region)
        name = f"call_{len(known) + 1}" if name in dict(known) else name
        known.append((name, region))
        self.names[region] = name


def _called(region: Region) -> Iterator[str]:
    """Paths of the modules that the statements of a call are calls of."""
    for item in region.items:
        if isinstance(item, Region):
            yield item.module
        elif item.op == "layer":
            yield item.args[0].args[0]


def _by_height(root: Region) -> list[list[Region]]:
    """Regions, those first that hold no others."""
    levels: list[list[Region]] = []

    def height(region: Region) -> int:
        inner = [height(item) for item in region.items if isinstance(item, Region)]
        found = max(inner, default=-1) + 1
        while len(levels) <= found:
            levels.append([])
        levels[found].append(region)
        return found

    height(root)
    return levels


def _within(less: Outline, more: Outline) -> tuple[Outline, tuple[int, ...]] | None:
    """The outline with more results, with the numbers of the other, and the places of the other's
    results in it; None where it does something else."""
    for places in combinations(range(len(more.outputs)), len(less.outputs)):
        part, kept = _restricted(more, places)
        if part.shape() == less.shape():
            numbers = dict(zip(kept, (step.numbers for step in less.steps), strict=True))
            steps = (
                replace(step, numbers=numbers.get(i, step.numbers))
                for i, step in enumerate(more.steps)
            )
            return replace(more, steps=tuple(steps)), places
    return None


def _restricted(outline: Outline, places: tuple[int, ...]) -> tuple[Outline, list[int]]:
    """What is left of an outline that has only some of its results, and which of its steps."""
    outputs = [outline.outputs[i] for i in places]
    wanted = {ref[1] for ref in outputs if ref[0] == "made"}
    for i in reversed(range(len(outline.steps))):
        step = outline.steps[i]
        if step.acts or i in wanted:
            wanted.add(i)
            wanted.update(ref[1] for ref in step.reads if ref[0] == "made")
    kept = sorted(wanted)
    order = {old: new for new, old in enumerate(kept)}

    def moved(ref: Any) -> Any:
        return ("made", order[ref[1]], ref[2]) if ref[0] == "made" else ref

    steps: list[Step] = [
        replace(outline.steps[i], reads=tuple(map(moved, outline.steps[i].reads))) for i in kept
    ]
    return Outline(tuple(steps), tuple(map(moved, outputs)), outline.inputs), kept
