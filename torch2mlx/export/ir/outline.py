"""What a list of statements does, whatever its values are called: lists that do the same have one
outline, numbers aside.

A step is one statement. What it reads is told by place: an input, a result of a step before, or
something that the module holds. Its numbers are told apart, so that programs that differ in numbers
alone can be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.ir.dead import DOING
from torch2mlx.export.ir.local_numbers import STORED
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.regions import Region, reads_of

#: Words whose numbers are places, which no attribute of a module can stand for.
_PLACES = ("shape", "item", "entry", "slot")
_NODE, _NUMBER = "<node>", "<number>"

#: ("in", i), ("made", step, i) or ("own", text).
Ref = tuple[Any, ...]
Item = Node | Region


@dataclass(frozen=True)
class Step:
    """One statement: what is called, with a place for each operand and each number."""

    what: Any
    reads: tuple[Ref, ...]
    numbers: tuple[Any, ...] = ()
    results: int = 1
    #: Whether it does more than give results.
    acts: bool = False


@dataclass(frozen=True)
class Outline:
    """Steps, where the results are among them, and how many inputs there are."""

    steps: tuple[Step, ...]
    outputs: tuple[Ref, ...]
    inputs: int

    def shape(self) -> Any:
        """What outlines that differ in numbers alone have in common."""
        steps = tuple((s.what, s.reads, len(s.numbers), s.results, s.acts) for s in self.steps)
        return steps, self.outputs, self.inputs

    def exact(self) -> Any:
        """What outlines have in common that are the same; 1, 1.0 and True are not."""
        numbers = (n for step in self.steps for n in step.numbers)
        return self.shape(), tuple((type(n).__name__, repr(n)) for n in numbers)


class Outliner:
    """Makes outlines of the statements of one region. `own` gives the text of what a module holds,
    None for what comes in as an input; `called` tells which method of what a call is one of."""

    def __init__(
        self,
        inputs: Sequence[Node],
        own: Callable[[Node], str],
        called: Callable[[Region], Any],
    ) -> None:
        self._own, self._called = own, called
        self._modules = {n.args: ("in", i) for i, n in enumerate(inputs) if n.op == "module"}
        self._refs: dict[Node, Ref] = {node: ("in", i) for i, node in enumerate(inputs)}
        self._inputs = len(inputs)

    def outline(self, items: Iterable[Item], outputs: Iterable[Node]) -> Outline:
        """The outline of statements."""
        steps = tuple(self._step(item, i) for i, item in enumerate(items))
        return Outline(steps, tuple(map(self.ref, outputs)), self._inputs)

    def ref(self, node: Node) -> Ref:
        """Where a value comes from."""
        if node in self._refs:
            return self._refs[node]
        if node.op == "module" and node.args in self._modules:
            return self._modules[node.args]
        return ("own", self._own(node)) if node.op in STORED else ("unused",)

    def _step(self, item: Item, i: int) -> Step:
        if isinstance(item, Region):
            reads = [*item.given, *([item.callee] if item.callee is not None else [])]
            acts = any(node.op in DOING for node in item.nodes())
            step = Step(
                self._called(item), tuple(map(self.ref, reads)), (), len(item.outputs), acts
            )
            self._refs.update({node: ("made", i, j) for j, node in enumerate(item.outputs)})
            return step
        self._refs[item] = ("made", i, 0)
        refs = tuple(map(self.ref, reads_of(item)))
        if item.op == "layer" and not item.kwargs and list(item.args) == reads_of(item):
            return Step(refs[0][1], refs[1:])  # a module of the file may stand there as well
        what, numbers = what_of(item, self._own)
        return Step(what, refs, numbers, 1, item.op in DOING)


def what_of(item: Node, own: Callable[[Node], str]) -> tuple[Any, tuple[Any, ...]]:
    """What a statement calls, with places for operands and numbers; and the numbers."""
    numbers: list[Any] = []
    args = item.args
    if item.op == "update":
        args = (own(Node("param", (args[0],))), *args[1:])
    template: tuple[Any, ...] = (_template(args, numbers), _template(item.kwargs, numbers))
    if item.op in _PLACES:
        template, numbers = (*template, repr(item.args[1])), []
    size = item.ndim if item.is_array else len(item.value) if _several(item) else 0
    return (item.op, template, size), tuple(numbers)


def _several(node: Node) -> bool:
    return isinstance(node.value, (tuple, list))


def _template(value: Any, numbers: list[Any]) -> Any:
    """An argument with places for its nodes and numbers; these are collected in order."""
    if isinstance(value, Node):
        return _NODE
    if isinstance(value, (bool, int, float)):
        numbers.append(value)
        return _NUMBER
    if isinstance(value, (tuple, list)):
        return tuple(_template(item, numbers) for item in value)
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return ("slice", *(_template(part, numbers) for part in parts))
    if isinstance(value, Mapping):
        return tuple((name, _template(item, numbers)) for name, item in value.items())
    return (type(value).__name__, repr(value))


def with_attributes(item: Node, names: Mapping[int, Any]) -> None:
    """Writes other things for some of the numbers of a statement, by their place among these."""
    count = iter(range(_count((item.args, item.kwargs))))
    object.__setattr__(item, "args", _written(item.args, names, count))
    object.__setattr__(item, "kwargs", _written(item.kwargs, names, count))


def _count(value: Any) -> int:
    numbers: list[Any] = []
    _template(value, numbers)
    return len(numbers)


def _written(value: Any, names: Mapping[int, Any], count: Iterator[int]) -> Any:
    if isinstance(value, (bool, int, float)):
        return names.get(next(count), value)
    if isinstance(value, (tuple, list)):
        return tuple(_written(item, names, count) for item in value)
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return slice(*[_written(part, names, count) for part in parts])
    if isinstance(value, Mapping):
        return {name: _written(item, names, count) for name, item in value.items()}
    return value
