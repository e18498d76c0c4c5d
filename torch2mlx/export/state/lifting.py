"""A program that takes its state and answers the next one becomes one that keeps it in caches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.nodes import Frame, Input, Node, Program, changed, operands, replace
from torch2mlx.export.state.kinds import Entry, Leaf, symbols_of
from torch2mlx.export.state.stepping import STATE, shown

#: The argument of the emitted model that holds the caches.
CACHE = "cache"


@dataclass(frozen=True)
class _Cache:
    """What stands for a cache while a program is written."""

    entries: tuple[Any, ...] = ()


class Lifting:
    """The rewriting of one program."""

    def __init__(self, program: Program, entries: Sequence[Entry]) -> None:
        self._program, self._entries = program, entries
        self._places = {node: i for i, node in enumerate(program.nodes)}
        self._leaves = [leaf for entry in entries for leaf in _leaves(entry)]
        self._state = {leaf.before for leaf in self._leaves}
        root = program.nodes[0].scope[:1]
        parts = tuple(_Cache() for _ in entries)
        self.cache = Node("input", ((CACHE,),), {}, _Cache(parts), None, root, CACHE)
        self._shared, self._inner = self._common(True), self._common(False)
        self._held = self._taken(self._inner)
        same = self._shared == self._inner
        #: The caches whose lengths are asked for, further out than they are used.
        self._asked = self._held if same else self._taken(self._shared)
        self._new: dict[Node, Any] = {}
        self._before: dict[Node, list[Node]] = {}
        self._after: dict[Node, list[Node]] = {}
        self._offsets: dict[str, Node] = {}

    def _taken(self, scope: tuple[Frame, ...]) -> list[Node]:
        """Each of the caches, taken out of their list in a call."""
        parts = self.cache.value.entries
        return [
            Node("entry", (self.cache, i), {}, part, None, scope, CACHE)
            for i, part in enumerate(parts)
        ]

    def lifted(self) -> Program:
        """The program without a state among its arguments and results."""
        self._lengths()
        for number, entry in enumerate(self._entries):
            self._grow(number, entry)
            for place, leaf in enumerate(entry.slots):
                self._slot(number, place, leaf)
        nodes = [self.cache]
        start, inner = self._start(self._shared), self._start(self._inner)
        for i, node in enumerate(self._program.nodes):
            if i == start:
                nodes += [*self._asked, *self._offsets.values()]
            if i == inner and self._held is not self._asked:
                nodes += self._held
            if node in self._state:
                continue
            nodes += self._before.get(node, ())
            nodes += [] if node in self._new else [self._now(node)]
            nodes += [self._now(after) for after in self._after.get(node, ())]
        kept = [i for i in self._program.inputs if i.path[0] != STATE]
        inputs = (*kept, Input((CACHE,), self.cache))
        answer = self._outputs(self._program.outputs[0])
        return dataclasses.replace(self._program, nodes=tuple(nodes), inputs=inputs, outputs=answer)

    def _now(self, node: Node) -> Node:
        """A node with what stands for its operands."""
        if not any(self._replaced(read) is not read for read in operands(node)):
            return node
        made = changed(
            node, replace(node.args, self._replaced), replace(node.kwargs, self._replaced)
        )
        self._new[node] = made
        return made

    def _replaced(self, node: Node) -> Any:
        while isinstance(node, Node) and node in self._new:
            node = self._new[node]
        return node

    def _outputs(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._outputs(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._outputs(item) for item in value)
        return self._replaced(value) if isinstance(value, Node) else value

    def _common(self, asked: bool) -> tuple[Frame, ...]:
        """The innermost call that all uses of the state lie in; of its lengths too, if `asked`."""
        readers = [node for leaf in self._leaves for node in leaf.readers]
        lengths = {node for node in readers if node.op == "shape"}
        users = [node for node in readers if node not in lengths]
        if asked or not users:
            users += [n for n in self._program.nodes if not lengths.isdisjoint(operands(n))]
        scopes = [node.scope for node in users] or [self._program.nodes[0].scope[:1]]
        shared = scopes[0]
        for scope in scopes[1:]:
            same = [a.path == b.path for a, b in zip(shared, scope, strict=False)]
            shared = shared[: same.index(False) if False in same else len(same)]
        return shared

    def _start(self, scope: tuple[Frame, ...]) -> int:
        """The place of the first statement in a call."""
        paths = [frame.path for frame in scope]
        stored = ("param", "constant", "input", "module")
        return next(
            i
            for i, node in enumerate(self._program.nodes)
            if node.op not in stored and [f.path for f in node.scope[: len(scope)]] == paths
        )

    def _lengths(self) -> None:
        """Lengths of what caches hold become offsets; others are told by an argument."""
        told = symbols_of(self._entries)
        growing = [e for e in self._entries if e.keys is not None]
        for entry in growing:
            for leaf in (entry.keys, entry.values):
                assert leaf is not None
                for reader in leaf.readers:
                    if reader.op == "shape":
                        self._new[reader] = self._length(reader, leaf, told)

    def _length(self, reader: Node, leaf: Leaf, told: Any) -> Any:
        axis = reader.args[1]
        symbol = leaf.before.dims[axis] if leaf.before.dims else leaf.before.shape[axis]
        if isinstance(symbol, int):
            return symbol
        if symbol in told:
            if symbol not in self._offsets:
                held = self._asked[told[symbol]]
                scope = self._shared
                self._offsets[symbol] = Node(
                    "held", (held,), {}, reader.value, None, scope, "offset"
                )
            return self._offsets[symbol]
        made = self._told(leaf, axis, reader)
        if made is not None:
            self._before.setdefault(reader, []).append(made)
            return made
        raise TranslationError(f"the length {symbol} of the state {shown(leaf.path)} is not known")

    def _grow(self, number: int, entry: Entry) -> None:
        """Appending becomes a call of the cache, where both of what is appended are known."""
        if entry.keys is None or entry.values is None:
            return
        pair = (entry.keys, entry.values)
        last = max((leaf.after for leaf in pair), key=lambda node: self._places[node])
        first = min((leaf.after for leaf in pair), key=lambda node: self._places[node])
        between = self._program.nodes[self._places[first] + 1 : self._places[last]]
        if any(first in operands(node) for node in between):
            raise TranslationError(f"{shown(pair[0].path)} is read before it is complete")
        given = (self._held[number], pair[0].new, pair[1].new)
        values = (pair[0].after.value, pair[1].after.value)
        made = Node("method.update_and_fetch", given, {}, values, None, last.scope, "", last.line)
        names = ("keys", "values")
        parts = []
        for i, leaf in enumerate(pair):
            old = leaf.after
            more = (old.value, old.dims, last.scope, names[i], old.line, old.origin)
            parts.append(Node("item", (made, i), {}, *more))
            self._new[old] = parts[-1]
        self._after.setdefault(last, []).extend([made, *parts])

    def _slot(self, number: int, place: int, leaf: Leaf) -> None:
        """A value is read where it is first needed, and written where it is made."""
        before, after = leaf.before, leaf.after
        if not isinstance(after, Node):
            raise TranslationError(f"the state {shown(leaf.path)} becomes a plain value")
        if after is before:
            return
        lengths = [reader for reader in leaf.readers if reader.op == "shape"]
        users = [n for n in self._program.nodes if not set(lengths).isdisjoint(operands(n))]
        users += [reader for reader in (*leaf.readers, after) if reader not in lengths]
        first = min(users, key=lambda node: self._places[node])
        held = self._held[number]
        more = (before.value, before.dims, first.scope, _called(leaf), "", before.origin)
        read = Node("slot", (held, place), {}, *more)
        added = self._before.setdefault(first, [])
        added.append(read)
        for reader in lengths:
            self._new[reader] = self._slot_length(reader, leaf, read, added)
        self._new[before] = read
        stored = Node("store", (held, place, after), {}, None, None, after.scope)
        self._after.setdefault(after, []).append(stored)

    def _slot_length(self, reader: Node, leaf: Leaf, read: Node, added: list[Node]) -> Any:
        """A length of what is in a slot: that of an argument, or a number, where it is the same
        from the first call on."""
        axis = reader.args[1]
        made = self._told(leaf, axis, read)
        length = leaf.lengths({})[axis]
        if made is None and length:
            return length
        made = made or Node("shape", (read, axis), {}, reader.value, None, read.scope)
        added.append(made)
        return made

    def _told(self, leaf: Leaf, axis: int, near: Node) -> Node | None:
        """A length of the state that another argument of the model has too."""
        symbol = leaf.before.dims[axis] if leaf.before.dims else None
        for given in self._program.inputs:
            node = given.node
            if given.path[0] != STATE and node is not None and symbol in (node.dims or ()):
                place = node.dims.index(symbol)  # type: ignore[union-attr]
                return Node("shape", (node, place), {}, node.value.shape[place], None, near.scope)
        return None


def _called(leaf: Leaf) -> str:
    """A name for a part of the state: the last attribute on the way to it."""
    return next((part for part in reversed(leaf.path) if isinstance(part, str)), STATE)


def _leaves(entry: Entry) -> list[Leaf]:
    return [leaf for leaf in (entry.keys, entry.values, *entry.slots) if leaf is not None]


def lifted(program: Program, entries: Sequence[Entry]) -> Program:
    """The program with its state in caches, an argument `cache` that holds one for each entry.

    Raises TranslationError for a state that is used in a way that no cache can follow.
    """
    return Lifting(program, entries).lifted()
