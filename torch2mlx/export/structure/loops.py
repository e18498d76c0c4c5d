"""Turns of a loop among the statements of a region: calls of the items of a list of modules, one
after the other, or one call many times.

Statements of two turns are the same but for the item, for what the turn before made, and for values
that come from outside and differ from turn to turn, which stand in a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

from torch2mlx.export.ir.local_numbers import STORED
from torch2mlx.export.ir.nodes import Node, learn, leaves, replace
from torch2mlx.export.ir.outline import what_of, with_attributes
from torch2mlx.export.ir.regions import Region, reads_of
from torch2mlx.export.structure.series import Series

_FEWEST, _FEWEST_CALLS, _LONGEST = 2, 3, 6
#: Where a statement reads or writes a value: the statement's place in its turn, the value's in it.
Place = tuple[int, int]
Item: TypeAlias = "Node | Region | Loop"


@dataclass(frozen=True)
class Carried:
    """A value that each turn makes for the next: what statements of a turn read for it, what it is
    at first, and the result of the first turn."""

    value: Node
    first: Node
    result: Node


@dataclass(frozen=True)
class Grown:
    """A list to which each turn adds its result: what statements read for it, what is in it at
    first, and the result of the first turn."""

    value: Node
    first: tuple[Node, ...]
    result: Node


@dataclass(eq=False)
class Loop:
    """`items` are the statements of the first turn. `over` has the modules that are called, where
    these differ; `each` are values that differ, and what they are in each turn; `last` has the
    results of the last turn and those of the first."""

    items: list[Any]
    count: int
    over: Series | None
    carried: list[Carried] = field(default_factory=list)
    grown: list[Grown] = field(default_factory=list)
    each: list[tuple[Node, list[Any]]] = field(default_factory=list)
    last: dict[Node, Node] = field(default_factory=dict)

    @property
    def results(self) -> list[Node]:
        """What the first turn makes for the next, then what it adds to lists."""
        return [*(one.result for one in self.carried), *(one.result for one in self.grown)]


@dataclass(frozen=True)
class Texts:
    """How methods name what a module holds, and the calls in it."""

    own: Callable[[Node], str]
    called: Callable[[Region], str]


def with_loops(
    items: Sequence[Any], results: Sequence[Node], rows: Sequence[Series], texts: Texts
) -> list[Any]:
    """Statements with loops. `results` are read after them; `rows` are modules to go through, those
    first that hold others."""
    out = list(items)
    for row in rows:
        turns = _over(out, row, texts)
        out = _rolled(out, results, turns, row, rows, texts) or out
    at = 0
    while at < len(out):
        turns = _repeated(out, at, texts)
        out = _rolled(out, results, turns, None, rows, texts) or out
        at += 1
    return out


def outer_reads(loop: Loop) -> list[Node]:
    """What a loop reads of what was made before it."""
    made = {node for item in loop.items for node in made_by(item)}
    made |= {one.value for one in loop.carried} | {one.value for one in loop.grown}
    made |= {value for value, _ in loop.each}
    reads = [one.first for one in loop.carried]
    reads += [node for one in loop.grown for node in one.first]
    reads += [value for _, values in loop.each for value in values if isinstance(value, Node)]
    inner = (read for item in loop.items for read in all_reads(item))
    return [*reads, *(read for read in inner if read not in made)]


def all_reads(item: Any) -> list[Node]:
    """What a statement or a loop reads."""
    return outer_reads(item) if isinstance(item, Loop) else reads_of(item)


def made_by(item: Any) -> list[Node]:
    """What a statement or a loop gives, by the nodes of a loop's first turn."""
    if isinstance(item, Loop):
        return [node for inner in item.items for node in made_by(inner)]
    return item.outputs if isinstance(item, Region) else [item]


def _over(items: list[Any], row: Series, texts: Texts) -> list[list[Any]] | None:
    """The turns over a whole row, the shortest that are alike."""
    length = len(row.items)
    places = [_mentioned(item, row, texts) for item in items]
    firsts = [places.index(i) for i in range(length) if i in places]
    steps = {b - a for a, b in pairwise(firsts)}
    if length < _FEWEST or len(firsts) < length or len(steps) != 1 or min(steps) < 1:
        return None
    (size,) = steps
    for begin in range(firsts[0], firsts[0] - size, -1):
        end = begin + size * length
        if begin < 0 or end > len(items):
            continue
        turns = [items[at : at + size] for at in range(begin, end, size)]
        if all(_same(turns[0], turn, row, i, texts) for i, turn in enumerate(turns)):
            return turns
    return None


def _repeated(items: list[Any], begin: int, texts: Texts) -> list[list[Any]] | None:
    """Turns from a place on that are the same calls again."""
    for size in range(1, _LONGEST + 1):
        turn = items[begin : begin + size]
        if not any(isinstance(item, Region) for item in turn):
            continue
        turns, at = [turn], begin + size
        while at + size <= len(items) and _same(turn, items[at : at + size], None, 0, texts):
            turns.append(items[at : at + size])
            at += size
        if len(turns) >= _FEWEST_CALLS:
            return turns
    return None


def _mentioned(item: Any, row: Series, texts: Texts) -> int | None:
    """The place in a row of the module that a statement calls or whose tensors it reads."""
    places = (row.place(text) for text in _names(item, texts))
    return next((place for place in places if place is not None), None)


def _names(item: Any, texts: Texts) -> Iterator[str]:
    if isinstance(item, Loop):
        for inner in item.items:
            yield from _names(inner, texts)
        return
    if isinstance(item, Region) and item.callee is None:
        yield texts.called(item)
    elif isinstance(item, Node) and item.op == "update":
        yield texts.own(Node("param", (item.args[0],)))
    yield from (text for read in reads_of(item) if (text := _own(read, texts)))


def _own(node: Node, texts: Texts) -> str:
    """The text of what the module holds; "" for what it does not."""
    if node.op not in STORED:
        return ""
    try:
        return texts.own(node)
    except ValueError:  # an argument
        return ""


def _same(turn: list[Any], other: list[Any], row: Series | None, i: int, texts: Texts) -> bool:
    """Whether statements call the same but for the item of the row."""
    return all(_what(a, row, 0, texts) == _what(b, row, i, texts) for a, b in _pairs(turn, other))


def _pairs(turn: list[Any], other: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(turn, other, strict=True)


def _what(item: Any, row: Series | None, i: int, texts: Texts) -> Any:
    """What a statement does, the item of the row left open."""
    if isinstance(item, Loop):
        return item  # another loop is another statement
    if isinstance(item, Node) and item.op == "list":
        return "list"

    def opened(text: str) -> str:
        return row.opened(text, i) if row else text

    held = tuple(opened(_own(read, texts)) for read in reads_of(item))
    if isinstance(item, Region):
        callee = item.callee is not None
        return opened(texts.called(item)), len(item.outputs), callee, held
    what, numbers = what_of(item, lambda node: opened(texts.own(node)))
    if item.op == "method.transpose":
        return what, numbers, held  # other axes are another arrangement, which no list should tell
    return what, tuple(type(number) for number in numbers), held


def _rolled(
    items: list[Any],
    results: Sequence[Node],
    turns: list[list[Any]] | None,
    row: Series | None,
    rows: Sequence[Series],
    texts: Texts,
) -> list[Any] | None:
    """The statements with one loop for the turns; None where values do not go from turn to turn."""
    if turns is None:
        return None
    begin = items.index(turns[0][0])
    rest = items[begin + len(turns) * len(turns[0]) :]
    flow = _Flow(turns, rest, results, texts)
    if not flow.loops or not (row or flow.carried):
        return None
    loop = flow.loop(row)
    inner = [*loop.results, *loop.last.values()]
    within = [r for r in rows if row and r is not row and row.place(r.source) == 0]
    loop.items = with_loops(loop.items, inner, within, texts) if within else loop.items
    return [*items[:begin], loop, *(item for item in rest if item not in loop.last)]


class _Flow:
    """Where the values that the statements of each turn read come from."""

    def __init__(
        self, turns: list[list[Any]], rest: list[Any], results: Sequence[Node], texts: Texts
    ) -> None:
        self._turns, self._rest, self._texts = turns, rest, texts
        self._made = [
            {n: (o, j) for o, item in enumerate(turn) for j, n in enumerate(made_by(item))}
            for turn in turns
        ]
        #: Places of lists that grow -> the place of the result that is added.
        self._grown = {o: place for o in range(len(turns[0])) if (place := self._growing(o))}
        self._whole = [tuple(self._listed(o)) for o in self._grown]
        self._later = {n for item in rest for n in self._reads_after(item)} | set(results)
        #: Places of reads -> the place of the result that the next turn reads there.
        self.carried: dict[Place, Place] = {}
        self._each: dict[Place, list[Node]] = {}
        self.loops = (
            self._lists_alike()
            and self._only_last_leaves()
            and all(
                self._read((o, p))
                for o, item in enumerate(turns[0])
                for p in range(0 if o in self._grown else len(all_reads(item)))
            )
        )

    def _growing(self, o: int) -> Place | None:
        """The place of the result that each turn adds to a list; None where none grows."""
        lists = [turn[o] for turn in self._turns]
        if not isinstance(lists[0], Node) or lists[0].op != "list":
            return None
        added: set[Place | None] = set()
        for i, (one, more) in enumerate(pairwise(lists)):
            old, new = one.args[0], more.args[0]
            if new[:-1] != old:
                return None
            added.add(self._made[i].get(new[-1]))
        return added.pop() if len(added) == 1 else None

    def _listed(self, o: int) -> Iterator[Node]:
        """What is in a list that grows after the last turn."""
        place = self._grown[o]
        yield from self._turns[-1][o].args[0]
        yield from (node for node, at in self._made[-1].items() if at == place)

    def _reads_after(self, item: Any) -> Iterator[Node]:
        """What a statement after the loop reads, lists that have grown left out."""
        whole = self._whole_argument(item)
        if whole is None:
            yield from all_reads(item)
            return
        rest = [arg for k, arg in enumerate(item.args) if k != whole[0]]
        yield from leaves((*rest, *item.kwargs.values()))

    def _whole_argument(self, item: Any) -> tuple[int, int] | None:
        """Which argument of a statement is a list that has grown, and which of these it is."""
        if isinstance(item, Node):
            for k, argument in enumerate(item.args):
                if isinstance(argument, tuple) and argument in self._whole:
                    return k, self._whole.index(argument)
        return None

    def _lists_alike(self) -> bool:
        """Whether lists that do not grow have one length."""
        lists = [
            {len(turn[o].args[0]) for turn in self._turns}
            for o, item in enumerate(self._turns[0])
            if isinstance(item, Node) and item.op == "list" and o not in self._grown
        ]
        return all(len(lengths) == 1 for lengths in lists)

    def _only_last_leaves(self) -> bool:
        """Whether nothing after the loop reads what turns before the last one made."""
        inner = [
            {r for o, item in enumerate(turn) if o not in self._grown for r in all_reads(item)}
            for turn in self._turns
        ]
        for i, made in enumerate(self._made[:-1]):
            after = set().union(*inner[i + 2 :])
            if any(node in self._later or node in after for node in made):
                return False
        return True

    def _read(self, place: Place) -> bool:
        """Notes what a place of each turn reads; whether a loop can say that."""
        o, p = place
        reads = [all_reads(turn[o])[p] for turn in self._turns]
        if _own(reads[0], self._texts):
            return True  # of the row, or the same in each turn: `_same` has compared the texts
        within = self._made[0].get(reads[0])
        if within is not None:
            return all(m.get(r) == within for m, r in zip(self._made, reads, strict=True))
        before = [self._made[i].get(read) for i, read in enumerate(reads[1:])]
        if before[0] is not None:
            self.carried[place] = before[0]
            return all(one == before[0] for one in before)
        if any(read in made for read in reads for made in self._made):
            return False
        if any(read is not reads[0] for read in reads):
            self._each[place] = reads
        return True

    def loop(self, row: Series | None) -> Loop:
        """The loop; the statements of the first turn read what differs from turn to turn."""
        turn = self._turns[0]
        loop = Loop(turn, len(self._turns), row)
        end = {place: node for node, place in self._made[-1].items()}
        self._take_results(turn, end)
        first = {place: node for node, place in self._made[0].items()}
        loop.last = {end[place]: first[place] for place in end if end[place] in self._later}
        formals: dict[Any, Node] = {}
        changes: dict[Place, Node] = {}
        for place, source in self.carried.items():
            start = all_reads(turn[place[0]])[place[1]]
            if (start, source) not in formals:
                formals[start, source] = _formal("carried", start)
                loop.carried.append(Carried(formals[start, source], start, first[source]))
                loop.last[end[source]] = first[source]
            changes[place] = formals[start, source]
        for place, values in self._each.items():
            if tuple(values) not in formals:
                formals[tuple(values)] = _formal("each", values[0])
                loop.each.append((formals[tuple(values)], list(values)))
            changes[place] = formals[tuple(values)]
        for o, item in enumerate(turn):
            _change(item, {p: node for (at, p), node in changes.items() if at == o})
        self._numbers(loop)
        self._lists(loop, first)
        return loop

    def _take_results(self, turn: list[Any], end: Mapping[Place, Node]) -> None:
        """Results of the first turn that the last one alone has a use for get values."""
        for node, (o, j) in list(self._made[0].items()):
            if node.op == "unused" and end[o, j] in self._later:
                del self._made[0][node]
                turn[o].outputs[j] = _formal("result", end[o, j])
                self._made[0][turn[o].outputs[j]] = o, j

    def _lists(self, loop: Loop, first: Mapping[Place, Node]) -> None:
        """Lists that grow: what reads them, in a turn and afterwards, reads one value."""
        grown = []
        for o, place in self._grown.items():
            start = loop.items[o]
            value = Node("grown", (), {}, start.value, name=start.name)
            loop.grown.append(Grown(value, start.args[0], first[place]))
            grown.append(value)
            for item in loop.items:
                _change(item, {p: value for p, n in enumerate(all_reads(item)) if n is start})
        loop.items = [item for o, item in enumerate(loop.items) if o not in self._grown]
        for item in self._rest:
            whole = self._whole_argument(item)
            if whole is not None and item.op == "list":
                loop.last[item] = grown[whole[1]]
            elif whole is not None:
                args = (*item.args[: whole[0]], grown[whole[1]], *item.args[whole[0] + 1 :])
                object.__setattr__(item, "args", args)

    def _numbers(self, loop: Loop) -> None:
        """Numbers that differ from turn to turn."""
        for o, item in enumerate(loop.items):
            if not isinstance(item, Node):
                continue
            told = [what_of(turn[o], lambda node: "")[1] for turn in self._turns]
            varying: dict[int, Node] = {}  # written at once: places are counted among numbers
            for k, numbers in enumerate(zip(*told, strict=True)):
                if len(set(map(repr, numbers))) > 1:
                    varying[k] = Node("each", (), {}, numbers[0])
                    loop.each.append((varying[k], list(numbers)))
            with_attributes(item, varying)


def _formal(op: str, like: Node) -> Node:
    made = Node(op, (), {}, like.value, like.dims)
    learn(made, name=like.name)
    return made


def _change(item: Any, changes: Mapping[int, Node]) -> None:
    """Writes other operands at some places of a statement."""
    if not changes:
        return
    if isinstance(item, Region):
        item.given = [changes.get(p, node) for p, node in enumerate(item.given)]
        return
    count = iter(range(len(reads_of(item))))
    object.__setattr__(item, "args", replace(item.args, lambda n: changes.get(next(count), n)))
    object.__setattr__(item, "kwargs", replace(item.kwargs, lambda n: changes.get(next(count), n)))
