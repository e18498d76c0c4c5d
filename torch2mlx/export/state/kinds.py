"""What becomes of each tensor of a state, by what the program does with it: keys and values that
grow go to a cache that grows, anything else to a slot that is written anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, operands
from torch2mlx.export.state.stepping import STATE
from torch2mlx.export.state.trees import Path


@dataclass(frozen=True)
class Leaf:
    """One tensor of the state: the argument that it is, and its next version."""

    number: int
    path: Path
    before: Node
    after: Any
    #: Nodes that read it.
    readers: tuple[Node, ...] = ()

    @property
    def new(self) -> Node | None:
        """What is appended along the axis before the last; None where it changes otherwise."""
        after = self.after
        if not isinstance(after, Node) or after.op != "mx.concatenate" or self.before.ndim != 4:
            return None
        parts = after.args[0]
        axis = after.kwargs.get("axis", after.args[1] if len(after.args) > 1 else 0)
        appended = len(parts) == 2 and parts[0] is self.before and axis % 4 == 2
        return parts[1] if appended and parts[1] is not self.before else None

    @property
    def grows(self) -> bool:
        """Whether the program appends to it and reads nothing else of it than lengths."""
        new = self.new
        if new is None or new.dtype != self.before.dtype:
            return False
        others = [reader for reader in self.readers if reader is not self.after]
        return all(reader.op == "shape" for reader in others)

    def lengths(self, told: Mapping[str, Any]) -> list[Any]:
        """Its lengths before any call: those that `told` has are had from arguments; an axis along
        which it grows is empty, and one that keeps its length has that at once."""
        before, after = (self.before.dims or self.before.shape), _dims(self.after)
        found: list[Any] = []
        for axis, length in enumerate(before):
            later = after[axis] if len(after) == len(before) else None
            if not isinstance(length, str) or length in told:
                found.append(told.get(length, length) if isinstance(length, str) else length)
            elif later == length:
                found.append(self.before.value.shape[axis])
            else:
                found.append(later if isinstance(later, int) else 0)
        return found


@dataclass(frozen=True)
class Entry:
    """One cache: keys and values that grow together, or slots."""

    keys: Leaf | None = None
    values: Leaf | None = None
    slots: tuple[Leaf, ...] = field(default_factory=tuple)
    #: How many keys it holds at most, where those before them are gone.
    window: int | None = None

    @property
    def kind(self) -> str:
        """The class of mlx-lm's caches that it is."""
        if self.keys is None:
            return "ArraysCache"
        return "KVCache" if self.window is None else "RotatingKVCache"


def _dims(value: Any) -> Sequence[Any]:
    """The lengths of a result, with symbols where they vary."""
    if not isinstance(value, Node) or not value.is_array:
        return ()
    return value.dims or value.shape


def leaves_of(program: Program, paths: Sequence[Path]) -> list[Leaf]:
    """The tensors of the state of a program that answers (what it says, the next state)."""
    readers: dict[Node, list[Node]] = {}
    for node in program.nodes:
        for read in dict.fromkeys(operands(node)):
            readers.setdefault(read, []).append(node)
    inputs = {i.path[1]: i.node for i in program.inputs if i.path[0] == STATE}
    following = program.outputs[1]
    found = []
    for number, path in enumerate(paths):
        before = inputs[number]
        assert before is not None
        users = tuple(readers.get(before, ()))
        found.append(Leaf(number, path, before, following[number], users))
    return found


def entries_of(leaves: Sequence[Leaf], growing: bool = True) -> list[Entry]:
    """Caches for the tensors of a state: one or two for each holder of them, in their order.

    Without `growing`, all are slots.
    """
    holders: dict[Path, list[Leaf]] = {}
    for leaf in leaves:
        holders.setdefault(_holder(leaf.path), []).append(leaf)
    return [entry for held in holders.values() for entry in _entries(held, growing)]


def _holder(path: Path) -> Path:
    """The object that holds a tensor: what is numbered, a layer, before all else."""
    numbered = [i for i, part in enumerate(path[:-1]) if isinstance(part, int)]
    return path[: numbered[0] + 1] if numbered else path[:-1]


def _entries(held: Sequence[Leaf], growing: bool) -> Iterator[Entry]:
    pair = [leaf for leaf in held if growing and leaf.grows]
    if len(pair) == 2 and _fit(*pair):
        yield Entry(pair[0], pair[1])
        held = [leaf for leaf in held if leaf not in pair]
    if held:
        yield Entry(slots=tuple(held))


def _fit(keys: Leaf, values: Leaf) -> bool:
    """Whether one cache takes both: the same heads, and as many more at each call."""
    one, other = keys.new, values.new
    assert one is not None and other is not None
    return one.shape[:3] == other.shape[:3]


def symbols_of(entries: Sequence[Entry]) -> Mapping[str, int]:
    """Lengths that count what caches hold -> the cache that tells."""
    found: dict[str, int] = {}
    for number, entry in enumerate(entries):
        for leaf in (entry.keys, entry.values):
            length = leaf.before.dims[2] if leaf is not None and leaf.before.dims else None
            if isinstance(length, str):
                found.setdefault(length, number)
    return found
