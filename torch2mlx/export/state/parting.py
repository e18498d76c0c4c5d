"""One program that encodes, prepares the cross-attention and decodes becomes three methods of the
model: `encode`, `begin`, which fills caches with keys and values of what is encoded, and the
call itself, which reads them there."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.dead import DOING
from torch2mlx.export.ir.nodes import Frame, Node, Program, changed, learn, operands, replace
from torch2mlx.export.passes import shapes_only
from torch2mlx.export.state.lifting import CACHE
from torch2mlx.export.structure.entrances import numbered

#: What the emitted methods call what is encoded, and the parts of a cache that are made of it.
OUTPUT = "encoder_output"
_PARTS = ("keys", "values")
_STORED = ("param", "constant", "module")
#: The shortest of the lengths for which numbers are compared, and how many follow it.
_LENGTH, _TRIED = 1000, 700


@dataclass
class _Part:
    """One method: the nodes that it has of the program's, and what stands for them there."""

    number: int
    nodes: list[Node]
    #: Nodes of the program -> what this method reads instead.
    known: dict[Node, Any] = field(default_factory=dict)
    made: list[Node] = field(default_factory=list)


class Parting:
    """The parting of one program, whose results are the logits, what is encoded, and keys and
    values of each block's cross-attention."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._logits, self._output, *self._cross = program.outputs
        self._cache: Any = next(i.node for i in program.inputs if i.path == (CACHE,))
        self._inputs = [i.node for i in program.inputs if i.node is not None]
        held = {self._output, *self._cross}
        acting = [node for node in program.nodes if node.op in DOING]
        self.encode = self._slice([self._output], set())
        early = [n for n in acting if {*operands(n)} <= {*self.encode} and n.op == "demand"]
        self.encode = self._slice([self._output, *early], set())
        self.begin = self._slice(self._cross, {self._output})
        #: Lengths of what is encoded that are read later -> its axis, and that of the kept keys.
        self._begun = self._lengths(self.begin, self._output)
        self.begin = self._slice(self._cross, {self._output, *self._begun})
        late = [node for node in acting if node not in early]
        self.decode = self._slice([self._logits, *late], held)
        self._told = self._lengths(self.decode, self._cross[0])
        self.decode = self._slice([self._logits, *late], held | self._told.keys())
        self._early = set(self.encode)
        self._late: set[Node] = set()
        #: The call of the model, which the root holds.
        self._model = next(node.scope[:2] for node in self.decode if len(node.scope) > 1)
        self._shared = self._modules_of_several()

    def _slice(self, wanted: Sequence[Node], known: Collection[Node]) -> list[Node]:
        """The nodes that lead to some, but for those behind what is known."""
        needed = set(wanted)
        found = []
        for node in reversed(self._program.nodes):
            if node not in needed or (node in known and node not in wanted):
                continue
            found.append(node)
            needed.update(operands(node))
        return found[::-1]

    def _lengths(self, late: Sequence[Node], kept: Node) -> dict[Node, int]:
        """Numbers that a later method makes of the encoder's arguments and that are a length of
        what is kept: it has them from there."""
        found: dict[Node, int] = {}
        for node in set(late) & set(self.encode):
            if not node.is_array and node.op.startswith("operator.") and kept.dims:
                axis = next((i for i, dim in enumerate(kept.dims) if _same(node, dim)), None)
                if axis is not None:
                    found[node] = axis
        return found

    def order(self) -> list[str]:
        """The model's arguments in the order in which its methods take them: what is encoded, what
        the decoder alone takes, what both do, and the caches."""
        named = [str(i.path[0]) for i in self._program.inputs if i.path != (CACHE,)]
        read = {node for each in self.encode for node in operands(each) if each.op != "shape"}
        early = {str(i.path[0]) for i in self._program.inputs if i.node in read}
        return [*sorted(named, key=early.__contains__), OUTPUT, CACHE]

    def _modules_of_several(self) -> set[str]:
        """Modules that more than one of the methods calls something of."""
        seen: dict[str, set[int]] = {}
        for number, nodes in enumerate((self.encode, self.begin, self.decode)):
            for node in (n for n in nodes if n.op not in (*_STORED, "input")):
                for frame in node.scope if not number else self._outer(node):
                    seen.setdefault(frame.path.split("@")[0], set()).add(number)
        return {path for path, numbers in seen.items() if len(numbers) > 1}

    def parted(self) -> Program:
        """The program whose root calls the three methods one after the other."""
        encode, begin = _Part(1, self.encode), _Part(2, self.begin)
        decode = _Part(0, self.decode)
        self._write(encode)
        output = encode.known[self._output]
        learn(output, name=OUTPUT)
        begin.known[self._output] = decode.known[self._output] = output
        self._fill(begin)
        self._read(decode)
        stored = [node for node in self._program.nodes if node.op in (*_STORED, "input")]
        nodes = (*stored, *encode.made, *begin.made, *decode.made)
        answer = (decode.known[self._logits],)
        return dataclasses.replace(self._program, nodes=nodes, outputs=answer)

    def _outer(self, node: Node) -> tuple[Frame, ...]:
        """Where a node is made in the later methods: what the encoder makes too, which are numbers
        and masks, in the model's own."""
        return node.scope[:2] if node in self._early else node.scope

    def _placed(self, node: Node, number: int) -> tuple[Frame, ...]:
        """Where a node is made in a method: arrays that are made before the model is called, as
        inputs with other axes first, in the model; numbers are made anew wherever they are read."""
        scope = node.scope if number == 1 else self._outer(node)
        first = not node.is_array and node not in self._late
        return scope if len(scope) > 1 or first else self._model

    def _ordered(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes of a method that are made in it: those that the encoder makes too and numbers
        that the root makes of its arguments' lengths first, so that each call is in one piece."""
        made = [node for node in nodes if node.op not in (*_STORED, "input")]
        late: set[Node] = set()
        for node in made:
            again = node in self._early and nodes is not self.encode
            number = not node.is_array and len(node.scope) < 2 and node.op != "entry"
            if not (again or number) or not late.isdisjoint(operands(node)):
                late.add(node)
        self._late = late
        return [n for n in made if n not in late] + [n for n in made if n in late]

    def _write(self, part: _Part) -> None:
        for node in self._ordered(part.nodes):
            self._add(part, node)

    def _add(self, part: _Part, node: Node) -> None:
        read = lambda old: part.known.get(old, old)  # noqa: E731
        made = changed(node, replace(node.args, read), replace(node.kwargs, read))
        scope = self._scope(self._placed(node, part.number), part.number)
        object.__setattr__(made, "scope", scope)
        part.known[node] = made
        part.made.append(made)

    def _scope(self, scope: tuple[Frame, ...], number: int) -> tuple[Frame, ...]:
        if not number:
            return scope
        return tuple(
            Frame(numbered(frame.path, number), frame.kind)
            if frame.path and frame.path.split("@")[0] in self._shared
            else frame
            for frame in scope
        )

    def _fill(self, part: _Part) -> None:
        """Keys and values are put into the caches where they are made."""
        places = {node: divmod(i, len(_PARTS)) for i, node in enumerate(self._cross)}
        if len(places) < len(self._cross):
            raise TranslationError("keys and values of the cross-attention are one and the same")
        entries: Mapping[int, Node] = {}
        for node in self._ordered(part.nodes):
            if not entries and node.is_array and node not in self._early:
                entries = self._entries(self._common(), part.number)
                part.made += entries.values()
            for read in operands(node):
                if read in self._begun and read not in part.known:
                    self._shape(part, read, node)
            self._add(part, node)
            if node in places:
                block, place = places[node]
                made = part.known[node]
                learn(made, name=_PARTS[place])
                stored = (entries[block], place, made)
                part.made.append(Node("store", stored, {}, None, None, made.scope))

    def _shape(self, part: _Part, read: Node, reader: Node) -> None:
        """A length of what is encoded, where it is first needed."""
        given = (part.known[self._output], self._begun[read])
        scope = self._scope(self._placed(reader, part.number), part.number)
        part.known[read] = Node("shape", given, {}, read.value, None, scope)
        part.made.append(part.known[read])

    def _entries(self, scope: tuple[Frame, ...], number: int) -> Mapping[int, Node]:
        blocks = range(len(self._cross) // len(_PARTS))
        inner = self._scope(scope, number)
        parts = self._cache.value.entries
        return {
            i: Node("entry", (self._cache, i), {}, parts[i], None, inner, CACHE) for i in blocks
        }

    def _common(self) -> tuple[Frame, ...]:
        """The innermost call that keys and values of all blocks are made in."""
        shared = self._cross[0].scope
        for node in self._cross[1:]:
            same = [a == b for a, b in zip(shared, node.scope, strict=False)]
            shared = shared[: same.index(False) if False in same else len(same)]
        return tuple(shared)

    def _read(self, part: _Part) -> None:
        """Keys and values are read from the caches where they are first needed."""
        own = {n.args[1]: n for n in part.nodes if n.op == "entry"}
        for node in self._ordered(part.nodes):
            for read in operands(node):
                if read in self._cross and read not in part.known:
                    self._slot(part, own, read, node)
                elif read in self._told and read not in part.known:
                    self._length(part, own, read, node)
            self._add(part, node)

    def _length(self, part: _Part, own: Mapping[int, Node], read: Node, reader: Node) -> None:
        """A length of what is encoded, of the keys that the first block keeps of it."""
        keys = self._cross[0]
        self._slot(part, own, keys, reader)
        kept = part.known.pop(keys)  # each block reads its own where it needs them
        made = Node("shape", (kept, self._told[read]), {}, read.value, None, reader.scope)
        part.known[read] = made
        part.made.append(made)

    def _slot(self, part: _Part, own: Mapping[int, Node], read: Node, reader: Node) -> None:
        block, place = divmod(self._cross.index(read), len(_PARTS))
        if block not in own:
            raise TranslationError(f"block {block} of the decoder has no cache of its own")
        more = (read.value, read.dims, reader.scope, _PARTS[place], "", read.origin)
        held = part.known.get(own[block], own[block])
        part.known[read] = Node("slot", (held, place), {}, *more)
        part.made.append(part.known[read])


def parted(program: Program) -> tuple[Program, list[str]]:
    """The program of the three methods, and the order of what they take.

    Raises TranslationError where keys and values of the cross-attention cannot be kept.
    """
    parting = Parting(_turned(program))
    return parting.parted(), parting.order()


def _same(node: Node, dim: Any) -> bool:
    """Whether a number is a length, whatever the lengths of the arguments are."""
    nodes = shapes_only.cone(node)
    symbols = nodes and shapes_only.symbols(nodes)
    if not symbols or not isinstance(dim, str):
        return False
    tried = [dict.fromkeys(symbols, length) for length in range(_LENGTH, _LENGTH + _TRIED)]
    known: dict[str, Any] = {"__builtins__": {}, "Mod": lambda a, b: a % b, "Max": max}
    try:
        return all(shapes_only.computed(node, s) == eval(dim, known, s) for s in tried)
    except (NameError, ValueError, KeyError):  # a length of something else
        return False


def _turned(program: Program) -> Program:
    """The program in which attention that is written out reads what is kept: keys whose axes are in
    another order are turned from there, and not from what they were made of."""
    kept: dict[Node, Node] = {}
    for node in program.outputs[2:]:
        if node.op != "method.transpose":
            continue
        source, order = node.args[0], node.args[1:]
        for reader in program.nodes:
            if reader is not node and reader.op == node.op and reader.args[0] is source:
                axes = (order.index(axis) for axis in reader.args[1:])
                object.__setattr__(reader, "args", (node, *axes))
        object.__setattr__(node, "scope", source.scope)
        kept[source] = node
    late = set(kept.values())
    nodes: list[Node] = []
    for node in program.nodes:
        nodes += [] if node in late else [node]
        nodes += [kept[node]] if node in kept else []
    return dataclasses.replace(program, nodes=tuple(nodes))
