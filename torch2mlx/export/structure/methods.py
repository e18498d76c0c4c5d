"""The body of one `__call__`: what is put in place of its one use, statements in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch2mlx.export.ir.local_numbers import STORED
from torch2mlx.export.ir.name_allocator import Names, ends_of_statements, wanted
from torch2mlx.export.ir.nodes import STATEMENTS, Node, leaves, operands
from torch2mlx.export.ir.regions import Region
from torch2mlx.export.ir.render import ATOM, Renderer, Text, literal
from torch2mlx.export.structure.demanded import demanded
from torch2mlx.export.structure.loops import (
    Carried,
    Item,
    Loop,
    Texts,
    all_reads,
    made_by,
    outer_reads,
    with_loops,
)
from torch2mlx.export.structure.series import Series
from torch2mlx.export.structure.turns import head_of, turn_names, whole_of

#: An expression put in place of its use holds at most so many operators; a named one fewer.
_DEEP, _NAMED = 5, 2
#: What stays where it is: it changes something, or reads what is changed later.
_PLACED = (*STATEMENTS, "store", "slot", "held")
_SHAPE = re.compile(r"(\w+) = (\w+)\.shape\[(\d)\]$")


@dataclass(frozen=True)
class Method:
    """Arguments and statements; `result` is the text after `return`."""

    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    result: str


def finished(method: Method) -> Method:
    """A method in which what is only given back at once has no name."""
    lines, answer, head = list(method.lines), method.result, f"{method.result} = "
    if lines and lines[-1].startswith(head) and answer.isidentifier():
        answer = lines.pop()[len(head) :]
    return Method(method.arguments, tuple(lines), answer)


@dataclass(frozen=True)
class Surroundings:
    """What a body has to ask: names of arguments, texts of stored tensors and of modules."""

    arguments: Mapping[Node, str]
    reference: Callable[[Node], str]
    callee: Callable[[Region], str]
    #: Names of the arguments of the method that a call is one of.
    names_of: Callable[[Region], Sequence[str]]
    #: Rows of modules that loops may go through.
    rows: Sequence[Series] = ()
    #: Of arguments in containers: the way to each, from the argument of the method.
    ways: Mapping[Node, tuple[Any, ...]] = field(default_factory=dict)
    #: Functions of the file, which no local name may hide.
    functions: Collection[str] = ()


class Body:
    """Writes the statements of one region."""

    def __init__(self, region: Region, around: Surroundings) -> None:
        self._region, self._around = region, around
        texts = Texts(around.reference, around.callee)
        entries = [i for i in region.items if isinstance(i, Node) and i.op == "entry"]
        others = [i for i in region.items if not (isinstance(i, Node) and i.op == "entry")]
        self._items = [*entries, *with_loops(others, region.outputs, around.rows, texts)]
        self._names = Names(around.functions)
        self._text: dict[Node, Text] = {}
        self._all = list(_flat(self._items))
        self._inside = {item for item in self._all if isinstance(item, Node)}
        self._makers = {r.outputs[0]: r for r in self._all if isinstance(r, Region) and r.outputs}
        loops = list(_loops(self._items))
        self._first: dict[Node, Node] = {}
        for loop in reversed(loops):  # those within others first
            found = ((end, self._first.get(one, one)) for end, one in loop.last.items())
            self._first.update(found)
        self._pinned = {
            node for loop in loops for node in (*outer_reads(loop), *loop.last.values())
        }
        #: Modules that the method is handed: nodes that read the same one are one.
        self._handed = {node.args: node for node in region.inputs if node.op == "module"}
        self._turns = turn_names(loops, around.names_of)
        self._reads = self._count(loops)
        self._inlined: set[Node] = set()
        self._renderer = Renderer(self._lookup)
        self._lines: list[str] = []
        self._indent = ""
        self._opened: list[tuple[Series, str]] = []  # what loops go through, and their targets
        #: What is read after a loop that is open -> the names that its turns hand on.
        self._spared: dict[Node, list[str]] = {}
        self._unpacked: dict[Node, list[Node]] = {}
        self._produced: set[Node] = set()

    def _reads_of(self, item: Item) -> list[Node]:
        """What a statement reads, by the first turns of loops and the arguments of the method."""
        return [self._same(node) for node in all_reads(item)]

    def _same(self, node: Node) -> Node:
        """The node by which a value has its name."""
        node = self._first.get(node, node)
        return self._handed.get(node.args, node) if node.op == "module" else node

    def _outputs(self) -> list[Node]:
        return [self._first.get(node, node) for node in self._region.outputs]

    def _count(self, loops: list[Loop]) -> dict[Node, int]:
        counts: dict[Node, int] = {}
        reads = [node for item in self._all for node in self._reads_of(item)]
        reads += [self._first.get(one.first, one.first) for loop in loops for one in loop.carried]
        reads += [one.result for loop in loops for one in loop.grown]
        for node in (*reads, *self._outputs()):
            counts[node] = counts.get(node, 0) + 1
        return counts

    def write(self, result: Callable[[Callable[[Any], str]], str]) -> Method:
        """All statements; `result` prints the value to return with the printer it is given."""
        self._decide()
        arguments: list[str] = []
        containers: dict[str, str] = {}
        for name in dict.fromkeys(str(way[0]) for way in self._around.ways.values()):
            containers[name] = self._names.argument(name)
        arguments += containers.values()
        for node in self._region.inputs:
            if node in self._around.ways:
                continue
            known = self._around.arguments.get(node)
            name = self._names.argument(known) if known else self._names.take(wanted(node))
            self._text[node] = (name, ATOM)
            arguments.append(name)
        self._take_apart(containers)
        self._block(self._items, self._outputs())
        answer = result(self._renderer.argument)
        return Method(tuple(arguments), tuple(_with_shapes(self._lines)), answer)

    def _block(
        self, items: Sequence[Item], kept: Sequence[Node], own: Collection[Node] = ()
    ) -> None:
        """Statements in a row. `kept` are values that are read after them; in the body of a loop,
        `own` are the values that each turn makes, which alone end within it."""
        dying: dict[int, list[Node]] = {}
        for node, i in self._last_reads(items, kept).items():
            if not own or node in own:
                dying.setdefault(i, []).append(node)
        for i, item in enumerate(items):
            self._item(item, [n for n in dying.get(i, ()) if n in self._text])

    def _write_line(self, line: str) -> None:
        self._lines.append(self._indent + line)

    def _take_apart(self, containers: Mapping[str, str]) -> None:
        """Names for what came in containers: `inputs = batch["inputs"]`."""
        for node, (name, *keys) in self._around.ways.items():
            if self._reads.get(node, 0):
                words = [key for key in keys if isinstance(key, str) and key.isidentifier()]
                taken = self._names.take(words[-1] if words else wanted(node))
                where = "".join(f"[{literal(key)}]" for key in keys)
                self._write_line(f"{taken} = {containers[name]}{where}")
                self._text[node] = (taken, ATOM)

    def _item(self, item: Item, ends: list[Node]) -> None:
        if isinstance(item, Loop):
            self._loop(item, ends)
        elif isinstance(item, Region):
            if not (item.outputs and item.outputs[0] in self._inlined):
                self._call(item, ends)
        elif item not in self._inlined and item not in self._produced:
            self._statement(item, ends)

    def _loop(self, loop: Loop, ends: list[Node]) -> None:
        """A loop: its head, the statements of a turn, and what a turn hands to the next."""
        started: dict[Node, str] = {}
        within = {node for item in loop.items for node in self._reads_of(item)}
        later = [node for node in ends if node in within]  # every turn reads them
        ends = [node for node in ends if node not in within]
        for one in loop.carried:
            started[one.value] = self._start(one, ends, set(started.values()))
            self._turns[one.result] = started[one.value]
        targets, sources = [], []
        for grown in loop.grown:
            name = self._names.take(self._turns.get(grown.value) or "items")
            shown = ", ".join(map(self._renderer.argument, grown.first))
            self._write_line(f"{name} = [{shown}]")
            self._text[grown.value] = (name, ATOM)
        if loop.over:
            targets.append(self._names.take(loop.over.target))
            sources.append(self._opened_text(loop.over.source))
        for value, values in loop.each:
            shown = whole_of(values, self._renderer.argument)
            targets.append(self._names.take(self._turns.get(value) or wanted(value)))
            sources.append(shown)
            self._text[value] = (targets[-1], ATOM)
        self._write_line(head_of(targets, sources, loop.count))
        self._free(node for node in ends if node in self._text and not self._goes_on(node, started))
        outside, opened = self._indent, list(self._opened)
        self._indent += "    "
        if loop.over:
            self._opened.insert(0, (loop.over, targets[0]))
        own = {node for item in loop.items for node in made_by(item)} | set(started)
        for value, name in started.items():
            self._text[value] = (name, ATOM)
        handed = {one.result for one in loop.carried}
        for node in {*loop.last.values(), *(one.result for one in loop.grown)} - handed:
            self._spared.setdefault(node, []).extend(started.values())
        self._block(loop.items, [*loop.results, *loop.last.values()], own)
        self._hand_on(loop, started)
        self._indent, self._opened = outside, opened
        for name in targets:
            self._names.free(name)
        self._free(node for node in later if node in self._text)

    def _goes_on(self, node: Node, started: Mapping[Node, str]) -> bool:
        return self._text[node][0] in started.values()

    def _start(self, one: Carried, ends: list[Node], taken: set[str]) -> str:
        """The name of a carried value, which it has before the first turn too."""
        first = self._first.get(one.first, one.first)
        text = self._lookup(first)[0]
        if first in ends and first in self._text and text not in taken:
            return text
        name = self._names.take(self._turns.get(one.value) or "x")
        self._write_line(f"{name} = {text}")
        return name

    def _hand_on(self, loop: Loop, started: Mapping[Node, str]) -> None:
        """Gives the results of a turn the names that the next one reads them by."""
        left, right = [], []
        for grown in loop.grown:
            added = self._renderer.argument(grown.result)
            self._write_line(f"{self._text[grown.value][0]}.append({added})")
        told = [(one, started[one.value], self._lookup(one.result)[0]) for one in loop.carried]
        stays = {one.result for one, name, text in told if text == name}
        for one, name, text in told:
            if text != name:
                left.append(name)
                right.append(text)
                if one.result not in stays:  # one value may be handed on under several names
                    self._free([one.result] if one.result in self._text else ())
                    self._text[one.result] = (name, ATOM)
                    stays.add(one.result)
        if left:
            self._write_line(f"{', '.join(left)} = {', '.join(right)}")

    def _last_reads(self, items: Sequence[Item], kept: Sequence[Node]) -> dict[Node, int]:
        """The statement that reads each value last; values put in place are read where they are."""
        last: dict[Node, int] = {}
        for node in kept:
            self._touch(node, len(items), last)
        for i in range(len(items) - 1, -1, -1):
            item = items[i]
            if item in self._inlined:
                continue
            if isinstance(item, Region) and item.outputs and item.outputs[0] in self._inlined:
                continue
            for node in self._reads_of(item):
                self._touch(node, i, last)
        return last

    def _touch(self, node: Node, at: int, last: dict[Node, int]) -> None:
        seen = last.get(node, -1) >= at
        last[node] = max(last.get(node, -1), at)
        if node in self._inlined and not seen:
            for inner in self._reads_of(self._makers.get(node, node)):
                self._touch(inner, at, last)

    def _decide(self) -> None:
        """Which values are written where they are used."""
        named = ends_of_statements(self._all)
        choices = (node for node in self._inside if node.op == "builtin.choose")
        #: What a choice may leave out is computed only where it is chosen.
        self._alternatives = {n for node in choices for n in leaves(node.args[1:])}
        sizes: dict[Node, int] = {}
        for item in self._all:
            node = item.outputs[0] if isinstance(item, Region) and item.outputs else item
            if isinstance(node, Region):
                continue
            inner = (sizes.get(n, 0) for n in self._reads_of(item) if n in self._inlined)
            sizes[node] = 1 + sum(inner)
            if node.op == "item" and node is item:
                self._unpacked.setdefault(node.args[0], []).append(node)
            elif self._fits(item, node, sizes[node], node in named):
                self._inlined.add(node)
        for whole, parts in self._unpacked.items():
            alone = len(whole.value) == 1 and self._fits(whole, whole, sizes[whole], False)
            if alone:
                self._inlined.add(whole)
            if whole not in self._inside or len(parts) < len(whole.value) or alone:
                self._inlined.update(p for p in parts if self._reads.get(p, 0) <= 1)
            else:
                self._inlined.discard(whole)
                self._inlined.difference_update(parts)
        self._inlined -= {node for node in self._pinned if node.op != "entry"}

    def _fits(self, item: Node | Region, node: Node, size: int, named: bool) -> bool:
        """Whether a value is read once, and short enough to stand where it is read."""
        if node.op == "entry":
            return True
        if node in self._pinned:
            return False
        if node.op == "shape":
            return self._reads.get(node, 0) <= 2
        if node.op in _PLACED or node in self._outputs() or self._reads.get(node) != 1:
            return False
        if isinstance(item, Region) and len(item.outputs) != 1:
            return False
        return node in self._alternatives or size <= (_NAMED if named else _DEEP)

    def _lookup(self, node: Node) -> Text:
        node = self._same(node)
        if node.op in STORED and node not in self._text:
            return self._opened_text(self._around.reference(node)), ATOM
        if node in self._text:
            return self._text[node]
        if node in self._inlined:
            maker = self._makers.get(node)
            return (self._call_text(maker), ATOM) if maker else self._renderer.expression(node)
        raise KeyError(f"{node.op} is read before it is made")

    def _opened_text(self, text: str) -> str:
        """A path from self, by the names of the loops around."""
        for row, target in self._opened:
            if row.place(text) == 0:
                return row.opened(text, 0, target)
        return text

    def _free(self, ends: Iterable[Node]) -> None:
        for ended in ends:
            if ended not in self._outputs():
                self._names.free(self._text[ended][0])

    def _named(self, node: Node, name: str) -> str:
        spared = self._spared.get(node, ())
        taken = self._names.take(self._turns.get(node) or name, spared)
        self._text[node] = (taken, ATOM)
        return taken

    def _statement(self, node: Node, ends: list[Node]) -> None:
        if node.op == "update":
            target = self._lookup(Node("param", (node.args[0],)))[0]
            self._write_line(f"{target} = {self._renderer.argument(node.args[1])}")
            return
        if node.op == "store":
            holder, place, value = map(self._renderer.argument, node.args)
            self._write_line(f"{holder}[{place}] = {value}")
            return
        if node.op == "demand":
            for line in demanded(node, self._renderer):
                self._write_line(line)
            return
        text, _ = self._renderer.expression(node)
        self._free(ends)
        parts = self._parts(node)
        if parts:
            self._produced.update(parts)
            names = [self._part(p, node) for p in parts]
            left = ", ".join(names) + ("," if len(names) == 1 else "")
        else:
            left = self._named(node, wanted(node))
        self._write_line(f"{left} = {text}")

    def _parts(self, node: Node) -> list[Node]:
        """Results to unpack at once: all parts of a node, none of which is put in place."""
        parts = sorted(self._unpacked.get(node, ()), key=lambda p: p.args[1])
        if not parts or any(p in self._inlined for p in parts) or node in self._outputs():
            return []
        whole = [p.args[1] for p in parts] == list(range(len(node.value)))
        return parts if whole and self._reads.get(node, 0) <= len(parts) else []

    def _part(self, part: Node, whole: Node) -> str:
        """What one of several results is assigned to: a name, or the buffer that it is for."""
        update = self._update_of(part, whole)
        if update is None:
            return self._named(part, wanted(part) if part.name else f"part_{part.args[1]}")
        self._produced.add(update)
        return self._lookup(Node("param", (update.args[0],)))[0]

    def _update_of(self, part: Node, whole: Node) -> Node | None:
        """The update that alone reads a value, where nothing else needs the old one."""
        update = self._updates.get(part)
        if update is None or self._reads.get(part) != 1:
            return None
        old = self._readers.get(update.args[0], set()) - {whole}
        return None if old else update

    @cached_property
    def _updates(self) -> dict[Any, Node]:
        """What a buffer is assigned -> the update."""
        items = (i for i in self._all if isinstance(i, Node) and i.op == "update")
        return {update.args[1]: update for update in items}

    @cached_property
    def _readers(self) -> dict[str, set[Node]]:
        """Names of what is stored -> the nodes that read it, those of inner regions too."""
        found: dict[str, set[Node]] = {}
        for node in self._region.nodes():
            for read in operands(node):
                if read.op in STORED:
                    found.setdefault(read.args[0], set()).add(node)
        return found

    def _call(self, region: Region, ends: list[Node]) -> None:
        text = self._call_text(region)
        self._free(ends)
        part = region.module.rsplit(".", 1)[-1]
        usual = "x" if part.isdigit() else part
        names = [
            "_" if node.op == "unused" else self._named(node, node.name or usual)
            for node in region.outputs
        ]
        self._write_line(f"{', '.join(names)} = {text}" if names else text)

    def _call_text(self, region: Region) -> str:
        """The call of a module: a member, or an argument when the caller does not hold it."""
        given = ", ".join(self._renderer.argument(node) for node in region.given)
        called = self._opened_text(self._around.callee(region))
        if region.callee is not None:
            args = region.callee.args
            held = next(n for n in self._region.inputs if n.op == "module" and n.args == args)
            called = called.replace("self", self._text[held][0], 1)
        return f"{called}({given})"


def _flat(items: Iterable[Item]) -> Iterator[Node | Region]:
    """Statements, those of loops in the place of the loops."""
    for item in items:
        if isinstance(item, Loop):
            yield from _flat(item.items)
        else:
            yield item


def _loops(items: Iterable[Item]) -> Iterator[Loop]:
    """Loops, those within others after them."""
    for item in items:
        if isinstance(item, Loop):
            yield item
            yield from _loops(item.items)


def _with_shapes(lines: list[str]) -> Iterator[str]:
    """Lengths of one array read in a row, in one statement: `B, L = x.shape[:2]`."""
    i = 0
    while i < len(lines):
        run: list[tuple[str, str]] = []
        for line in lines[i:]:
            match = _SHAPE.match(line)
            if match is None or int(match[3]) != len(run) or (run and match[2] != run[0][1]):
                break
            run.append((match[1], match[2]))
        if len(run) > 1:
            yield f"{', '.join(name for name, _ in run)} = {run[0][1]}.shape[:{len(run)}]"
            i += len(run)
        else:
            yield lines[i]
            i += 1


def returned(nodes: list[Node], show: Callable[[Any], str]) -> str:
    """What a sub-module gives back: one value, or a tuple. None stands for what nobody reads."""
    return ", ".join("None" if node.op == "unused" else show(node) for node in nodes)


def structure(value: Any, show: Callable[[Any], str]) -> str:
    """The model's answer in its structure."""
    if isinstance(value, dict):
        inner = ", ".join(f"{show(key)}: {structure(item, show)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(structure(item, show) for item in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return show(value)
