"""The flat program as nested calls: one region for each call of a module, with what goes in and
out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.ir.dead import DOING
from torch2mlx.export.ir.local_numbers import STORED, LocalNumbers, Measures, numbers_in
from torch2mlx.export.ir.nodes import Node, Program, leaves, operands, replace


@dataclass(eq=False)
class Region:
    """One call of a module. `items` are its statements in order: nodes and calls of sub-modules.

    `inputs` are nodes from outside that are read inside, `given` what the caller hands in for them:
    the same nodes, but for numbers, which each region computes for itself where an array that it
    has can tell them. `outputs` are nodes from inside that are read outside.
    """

    path: str
    kind: str
    parent: Region | None = None
    owner: str = ""  # the module's path in the emitted tree
    callee: Node | None = None  # the module itself, where the caller does not hold it
    items: list[Node | Region] = field(default_factory=list)
    inputs: list[Node] = field(default_factory=list)
    given: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)

    @property
    def module(self) -> str:
        """The module's path, without the number of the call."""
        return self.path.split("@")[0]

    def leaves_out(self) -> bool:
        """Whether the caller has no use for a result that callers of its class's others have: then
        the class is not written after this call."""
        return any(node.op == "unused" for node in self.outputs)

    def nodes(self) -> Iterator[Node]:
        """All nodes, of inner regions too."""
        for item in self.items:
            if isinstance(item, Region):
                yield from item.nodes()
            else:
                yield item

    def regions(self) -> Iterator[Region]:
        """Inner regions, innermost first, then this one."""
        for item in self.items:
            if isinstance(item, Region):
                yield from item.regions()
        yield self


@dataclass(frozen=True)
class KnownNumbers:
    """What torch knows of numbers: the expression of each by the program's node whose result it is;
    and those that the model's code hands to a call of a module, by the call's path."""

    expressions: Mapping[str, Any] = field(default_factory=dict)
    handed: Mapping[str, Collection[Any]] = field(default_factory=dict)


def nested(
    program: Program, owners: Callable[[str], str], known: KnownNumbers | None = None
) -> Region:
    """The program as one region; `owners` gives a module's path in the emitted tree."""
    root = _placed(program)
    for region in root.regions():
        region.owner = owners(region.module)
    for region in root.regions():
        region.items = [each for item in region.items for each in _with_updates(item)]
    finals = [node for node in leaves(_plain(program.outputs))]
    _connect(root, program, finals, known or KnownNumbers())
    return root


def _with_updates(item: Node | Region) -> list[Node | Region]:
    """A call, and after it what it would write to a module that it does not hold."""
    if not isinstance(item, Region):
        return [item]
    inner = (each for each in item.items if isinstance(each, Node) and each.op == "update")
    outer = [update for update in inner if not under(update.args[0], item.owner)]
    item.items = [each for each in item.items if each not in outer]
    return [item, *outer]


def _plain(outputs: Any) -> Any:
    return tuple(outputs.values()) if isinstance(outputs, dict) else outputs


def _placed(program: Program) -> Region:
    """Regions by the scopes of nodes; a node of a call that is over goes to the caller."""
    kind = program.nodes[0].scope[0].kind if program.nodes and program.nodes[0].scope else "Model"
    root = Region("", kind)
    opened: dict[str, Region] = {"": root}
    over: set[str] = set()
    stack = [root]
    for node in program.nodes:
        if node.op in (*STORED, "input"):
            continue
        frames = [frame for frame in node.scope if frame.path]
        depth = 0
        while depth < len(frames) and depth + 1 < len(stack):
            if stack[depth + 1].path != frames[depth].path:
                break
            depth += 1
        over.update(region.path for region in stack[depth + 1 :])
        del stack[depth + 1 :]
        for frame in frames[depth:]:
            if frame.path in over:
                break
            region = Region(frame.path, frame.kind, stack[-1])
            stack[-1].items.append(region)
            opened[frame.path] = region
            stack.append(region)
        stack[-1].items.append(node)
    return root


def _connect(root: Region, program: Program, finals: list[Node], known: KnownNumbers) -> None:
    """Fills in what goes in and out of every region, and computes numbers where they are used."""
    regions, measures = list(root.regions()), Measures(known.expressions)
    for region in regions:
        arguments = (i.node for i in program.inputs if i.node is not None)
        given = known.handed.get(region.path, ())
        arrays = list(arguments) if region is root else []
        _localise(region, measures, arrays, given, set(finals))
    while _without_unread(regions, finals):
        for region in regions:
            _fill(region, set())
    home = {item: r for r in regions for item in r.items if isinstance(item, Node)}
    outside: dict[Region, dict[Node, None]] = {}
    for region in regions:
        for node in _direct_reads(region):
            _leave(node, region, home, outside)
    for node in finals:
        _leave(node, root, home, outside)
    for region, nodes in outside.items():
        order = {node: i for i, node in enumerate(region.nodes())}
        region.outputs = sorted(nodes, key=lambda n: order[n])
    root.outputs = finals


def _leave(node: Node, user: Region, home: dict[Node, Region], outside: Any) -> None:
    """Marks a node as leaving every region between its own and the user's."""
    region = home.get(node)
    ancestors = set()
    at: Region | None = user
    while at is not None:
        ancestors.add(at)
        at = at.parent
    while region is not None and region not in ancestors:
        outside.setdefault(region, {})[node] = None
        region = region.parent


def _direct_reads(region: Region) -> Iterator[Node]:
    for item in region.items:
        yield from reads_of(item)


def reads_of(item: Node | Region) -> list[Node]:
    """Nodes that a statement reads, with repetitions."""
    return item.given if isinstance(item, Region) else list(operands(item))


def _needs(region: Region, idle: set[Node]) -> list[Node]:
    inside = set(region.nodes())
    found: dict[Node, None] = {}
    for item in (each for each in region.items if each not in idle):
        reads = reads_of(item)
        if isinstance(item, Region) and not under(item.owner, region.owner):
            item.callee = Node("module", (item.module, item.owner))
            reads = [*reads, item.callee]
        for node in reads:
            if node in inside or (node.op in STORED and reachable(region, node)):
                continue
            same = (n for n in found if n.op == "module" == node.op and n.args == node.args)
            found.setdefault(next(same, node))
    return list(found)


def reachable(region: Region, node: Node) -> bool:
    """Whether a stored tensor lies under the region's module."""
    return under(str(node.args[-1]), region.owner)


def under(path: str, owner: str) -> bool:
    """Whether a path of the emitted tree lies in a module."""
    return not owner or path == owner or path.startswith(f"{owner}.")


def _localise(
    region: Region,
    measures: Measures,
    arguments: list[Node],
    given: Collection[Any],
    told: set[Node],
) -> None:
    """Fills in what goes into a region, the inner ones being done; numbers that come from lengths
    are made in it where its arguments tell them. `told` are those that the program answers."""

    def is_made(item: Node) -> bool:
        return item in measures and item not in told

    inside = set(region.nodes())
    arrays = [*arguments, *_outer_arrays(region, inside, measures)]
    numbers = LocalNumbers(measures, inside, arrays, given)
    for item in region.items:
        if isinstance(item, Region):
            item.given = [numbers.of(node) for node in item.given]
        elif not is_made(item):
            object.__setattr__(item, "args", replace(item.args, numbers.of))
            object.__setattr__(item, "kwargs", replace(item.kwargs, numbers.of))
    placed: dict[Node | Region, None] = dict.fromkeys(numbers.heading())
    for item in region.items:
        for read in reads_of(item) if isinstance(item, Region) or not is_made(item) else ():
            if numbers.made(read):
                placed.update(dict.fromkeys((*numbers_in(read, numbers), read)))
        placed[item] = None
    numbers_here = {i for i in placed if isinstance(i, Node) and is_made(i)}
    idle = numbers_here - _read_inside(placed)
    region.items = list(placed)
    _fill(region, idle)


def _read_inside(items: Iterable[Node | Region]) -> set[Node]:
    return {read for item in items for read in reads_of(item)}


def _fill(region: Region, idle: set[Node]) -> None:
    """What goes into a region whose inner ones are filled; `idle` are numbers that nothing in it
    reads."""
    known = dict(zip(region.inputs, region.given, strict=True))
    region.inputs = _needs(region, idle)
    region.given = [known.get(node, node) for node in region.inputs]


def _outer_arrays(region: Region, inside: set[Node], measures: Measures) -> list[Node]:
    """Arrays from outside, those first that are read for more than their lengths."""
    found: dict[Node, None] = {}
    for lengths_too in (False, True):
        for node in region.nodes():
            if lengths_too or node not in measures:
                arrays = (n for n in operands(node) if n.is_array and n.op not in STORED)
                found.update(dict.fromkeys(n for n in arrays if n not in inside and n.dims))
    return list(found)


def _without_unread(regions: list[Region], finals: list[Node]) -> bool:
    """Drops what nothing reads any more, now that numbers are made elsewhere; whether there was
    any."""
    read = {node for region in regions for node in _direct_reads(region)} | set(finals)
    found = False
    for region in regions:
        kept = [item for item in region.items if _needed(item, read)]
        found |= len(kept) < len(region.items)
        region.items = kept
    return found


def _needed(item: Node | Region, read: set[Node]) -> bool:
    if isinstance(item, Region):
        return bool(item.items)
    return item in read or item.op in DOING
