"""The flat program as nested calls: one region for each call of a module, with what goes in and
out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, leaves, operands, replace

#: Nodes that are no statements: they are written where they are used.
STORED = ("param", "constant", "module")


@dataclass(eq=False)
class Region:
    """One call of a module. `items` are its statements in order: nodes and calls of sub-modules.

    `inputs` are nodes from outside that are read inside; `outputs` nodes from inside that are read
    outside. Numbers never come in from outside when an array inside can tell them.
    """

    path: str
    kind: str
    parent: Region | None = None
    owner: str = ""  # the module's path in the emitted tree
    callee: Node | None = None  # the module itself, where the caller does not hold it
    items: list[Node | Region] = field(default_factory=list)
    inputs: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)

    @property
    def module(self) -> str:
        """The module's path, without the number of the call."""
        return self.path.split("@")[0]

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


def nested(program: Program, owners: Callable[[str], str]) -> Region:
    """The program as one region; `owners` gives a module's path in the emitted tree."""
    root = _placed(program)
    for region in root.regions():
        region.owner = owners(region.module)
    for region in root.regions():
        region.items = [each for item in region.items for each in _with_updates(item)]
    finals = [node for node in leaves(_plain(program.outputs))]
    _connect(root, finals)
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


def _connect(root: Region, finals: list[Node]) -> None:
    """Fills in what goes in and out of every region, and computes numbers where they are used."""
    regions = list(root.regions())
    for region in regions:
        _localise(region)
    home = {item: r for r in regions for item in r.items if isinstance(item, Node)}
    for region in regions:
        region.inputs = _needs(region)
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
        if isinstance(item, Node):
            yield from operands(item)


def _needs(region: Region) -> list[Node]:
    inside = set(region.nodes())
    found: dict[Node, None] = {}
    for item in region.items:
        reads: list[Node] = item.inputs if isinstance(item, Region) else list(operands(item))
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


def _localise(region: Region) -> None:
    """Numbers made outside from shapes are made again inside, from arrays that are there."""
    inside = set(region.nodes())
    made: dict[Node, Any] = {}
    arrays = [n for n in _outer_arrays(region, inside)]
    prologue: list[Node] = []

    def local(node: Node) -> Any:
        if node in inside or node.is_array or node.op in (*STORED, "input", "item"):
            return node
        if isinstance(node.value, (tuple, list)):
            return node
        if node not in made:
            made[node] = _again(node, arrays, local, prologue, region)
        return made[node]

    items: list[Node | Region] = []
    for item in region.items:
        if isinstance(item, Region):
            items.append(item)
            continue
        items.append(item)
    if any(
        not n.is_array and n not in inside
        for i in items
        if isinstance(i, Node)
        for n in operands(i)
    ):
        _rewrite(region, local)
    region.items[:0] = prologue


def _outer_arrays(region: Region, inside: set[Node]) -> Iterator[Node]:
    seen: set[Node] = set()
    for node in region.nodes():
        for read in operands(node):
            if read.is_array and read not in inside and read not in seen and read.dims:
                seen.add(read)
                if read.op not in STORED:
                    yield read


def _again(node: Node, arrays: list[Node], local: Any, prologue: list[Node], region: Region) -> Any:
    """A number from the arrays at hand; the node itself when none of them tells."""
    if node.op == "shape":
        source, axis = node.args
        symbol = source.dims[axis] if source.dims else None
        for array in arrays:
            assert array.dims is not None
            for i, dim in enumerate(array.dims):
                if isinstance(dim, str) and dim == symbol:
                    made = Node(
                        "shape", (array, i), {}, node.value, None, node.scope, "", node.line
                    )
                    prologue.append(made)
                    return made
        return node
    parts = [local(n) for n in operands(node)]
    if all(new is old for new, old in zip(parts, operands(node), strict=True)):
        return node
    args, kwargs = replace(node.args, local), replace(node.kwargs, local)
    made = Node(node.op, args, kwargs, node.value, None, node.scope, node.name, node.line)
    prologue.append(made)
    return made


def _rewrite(region: Region, local: Any) -> None:
    """Operands of the region's own nodes changed in place of the nodes: new nodes take their
    turn."""
    for item in region.items:
        if isinstance(item, Node):
            object.__setattr__(item, "args", replace(item.args, local))
            object.__setattr__(item, "kwargs", replace(item.kwargs, local))
