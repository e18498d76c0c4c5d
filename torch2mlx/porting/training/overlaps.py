"""Parts of one tensor: which surely have no number in common.

w[0], w[1:]        p, q = w.chunk(2)        w[:k], w[k:]          are apart
w[i], w[j]         w.t(), w[0]              p, w[:2]              may overlap
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.reaching import bound_within
from torch2mlx.porting.scopes.traversal import code, of_kinds, walk, words_of
from torch2mlx.porting.types.callers import Callers

#: Calls whose results are pieces of a tensor, none of which has a number of another one.
_PIECES = frozenset(
    [
        *("chunk", "split", "unbind", "tensor_split", "hsplit", "vsplit", "dsplit"),
        *("split_with_sizes", "unsafe_chunk", "unsafe_split", "array_split"),
    ]
)
#: Calls whose results may have one number at several places.
_FOLDED = ("unfold", "as_strided")
#: Calls that give the same answer twice, in the bounds of slices.
_STEADY = ("len", "size", "int")
LOOPS = (cst.For, cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)
_START, _END = ("start",), ("end",)


@dataclass(frozen=True)
class Step:
    """What leads from a tensor, or from what holds several, to a part. `kind`: "view", a part of a
    tensor or its numbers in another order; "pick", an item of a container; "each" of them, in the
    turns of a loop; "rows", a container of a tensor's rows; "listed" in the source, "collected" by
    a comprehension; "repeated", a container with the same items several times. `place`: of an item
    that was unpacked."""

    kind: str
    node: Any = None
    place: int | None = None


Steps = tuple[Step, ...]


class Overlaps:
    """Compares parts, by the bounds of slices and what their names stand for."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        added = (dotted(node.target) for node in of_kinds(callers.module, cst.AugAssign))
        self._added = {name.rpartition(".")[2] for name in added}  # `k += 1`

    # --- what renews, what separates

    def renewed(self, steps: Steps, several: bool) -> set[Any]:
        """The loops of which each turn has another part. `several`: many things were made."""
        found = {step.node for step in self._kept(steps, several, True) if step.kind == "each"}
        for step in steps:
            for coordinate in _coordinates(step):
                index = getattr(coordinate, "value", None)
                found |= self._counting(index) if isinstance(index, cst.Name) else set()
        return found

    def separating(self, steps: Steps, several: bool) -> Steps:
        """Those of the steps by which two parts can be told apart."""
        return tuple(self._kept(steps, several, False))

    def _kept(self, steps: Steps, several: bool, listed: bool) -> Iterator[Step]:
        """Steps without the picks of containers that hold one thing several times."""
        left = 0  # containers of different things that were not looked into yet
        turned = False
        for step in steps:
            if step.kind == "repeated":
                left, several = 0, False
            elif step.kind in ("rows", "listed"):
                left += step.kind == "rows" or listed
            elif step.kind == "collected":
                left += turned
            elif step.kind == "view":
                left += _method(step.node) in _PIECES
                yield step
            elif several or left:
                left = max(left - 1, 0)
                turned = step.kind == "each"
                yield step

    def _counting(self, index: cst.Name) -> set[Any]:
        """The loop over numbers, each of them once, whose number an index is."""
        held = self._callers.bindings(self._callers.scope(index))
        inner = bound_within(held, index)
        if inner is not None:
            return {inner[0]} if _counts_up(inner[1], index, inner[0].for_in.target) else set()
        found = held.reaching(index.value, index)
        loop = found[0].statement if len(found) == 1 else None
        plain = isinstance(loop, cst.For) and _counts_up(loop.iter, index, loop.target)
        return {loop} if plain else set()

    @staticmethod
    def folded(steps: Steps) -> bool:
        """Whether a part may have one number at several places."""
        return any(step.kind == "view" and _folds(step.node) for step in steps)

    # --- comparing

    def apart(self, one: Steps, other: Steps, all_steps: Iterable[Steps]) -> bool:
        """Whether two parts of one thing surely have nothing in common. `all_steps`: of all parts
        that are known, none of which is empty."""
        for i, (left, right) in enumerate(zip(one, other, strict=False)):
            if self._same(left, right):
                continue
            beside = [s[i] for s in all_steps if len(s) > i and self._along(s[:i], one)]
            return self._disjoint(left, right, beside)
        return False

    def _along(self, steps: Steps, other: Steps) -> bool:
        return all(self._same(a, b) for a, b in zip(steps, other, strict=False))

    def _same(self, one: Step, other: Step) -> bool:
        """Whether two steps lead from one thing to the very same part."""
        if one.kind == "each" or other.kind == "each":
            return one.kind == other.kind and one.node is other.node
        if _text(one) != _text(other) or not _text(one):
            return False
        return all(map(self._equal, _parts(one), _parts(other)))

    def _disjoint(self, one: Step, other: Step, beside: list[Step]) -> bool:
        if "each" in (one.kind, other.kind):
            return False
        pairs = list(zip(_coordinates(one), _coordinates(other), strict=False))
        for i, (left, right) in enumerate(pairs):
            if _keys_apart(left, right):
                return True
            all_ranges = [_range(c[i]) for c in map(_coordinates, beside) if len(c) > i]
            (low, high), (start, end) = _range(left), _range(right)
            ranges = [r for r in all_ranges if None not in r]
            if self._before(high, start, ranges) or self._before(end, low, ranges):
                return True
        return False

    def _before(self, one: Any, other: Any, ranges: list[Any]) -> bool:
        """Whether a bound is no higher than another one, as the ranges say that are not empty."""
        reached, waiting = [one], [one]
        while waiting:
            now = waiting.pop()
            if self._at_most(now, other):
                return True
            for low, high in ranges:
                if self._at_most(now, low) and not any(high is r for r in reached):
                    reached.append(high)
                    waiting.append(high)
        return False

    def _at_most(self, one: Any, other: Any) -> bool:
        if one is None or other is None or one is _END or other is _START:
            return False
        if isinstance(one, int) and isinstance(other, int):
            return one <= other and (one < 0) == (other < 0)
        nodes = isinstance(one, cst.CSTNode) and isinstance(other, cst.CSTNode)
        return nodes and code(one) == code(other) and self._equal(one, other)

    def _equal(self, one: Any, other: Any) -> bool:
        """Whether expressions of one text stand for the same, wherever they do."""
        if one is other:
            return True
        if not (self._steady(one) and self._steady(other)):
            return False
        words = words_of(one) | words_of(other)
        pairs = zip(walk(one), walk(other), strict=False)
        names = [(a, b) for a, b in pairs if isinstance(a, cst.Name) and a not in words]
        return all(self._held(a) == self._held(b) for a, b in names)

    def _held(self, name: cst.Name) -> tuple[Any, ...]:
        """What gave a name the value that it has where it stands."""
        scope = self._callers.scope(name)
        held = self._callers.bindings(scope)
        inner = bound_within(held, name)
        if inner is not None:
            return (inner[0],)
        found = held.reaching(name.value, name)
        return (scope, *sorted(map(id, found)))

    def _steady(self, node: Any) -> bool:
        """Whether an expression is the same wherever its names are."""
        for part in walk(node):
            if isinstance(part, cst.Call) and code(part.func).rpartition(".")[2] not in _STEADY:
                return False
            if isinstance(part, (cst.NamedExpr, cst.Lambda)):
                return False
            if isinstance(part, cst.Name) and part.value in self._added:
                return False
            if isinstance(part, cst.Attribute) and len(self._callers.assigned(part.attr.value)) > 1:
                return False
        return True


# --- reading steps


def _method(node: Any) -> str:
    func = node.func if isinstance(node, cst.Call) else None
    return func.attr.value if isinstance(func, cst.Attribute) else dotted(func) if func else ""


def _is_function(node: cst.Call) -> bool:
    """Whether a call is of a function of a library, which is given the tensor."""
    func = node.func
    return isinstance(func, cst.Name) or dotted(func).partition(".")[0] in ("torch", "np", "numpy")


def _parts(step: Step) -> list[Any]:
    """What a step says beside the tensor that it is taken of."""
    node = step.node
    if step.place is not None or isinstance(node, cst.Attribute):
        return []
    if isinstance(node, cst.Subscript):
        return [element.slice for element in node.slice]
    if isinstance(node, cst.Call):
        given = node.args[1:] if _is_function(node) else node.args
        return [argument.value for argument in given]
    return []


def _text(step: Step) -> str:
    """What a step does, as text; "" of what is not known."""
    node = step.node
    if step.place is not None:
        return f"[{step.place}]"
    if isinstance(node, cst.Attribute):
        return f".{node.attr.value}"
    if isinstance(node, cst.Subscript):
        return f"[{', '.join(code(e.slice).strip() for e in node.slice)}]"
    if isinstance(node, cst.Call):
        given = node.args[1:] if _is_function(node) else node.args
        words = (f"{a.keyword.value if a.keyword else ''}={code(a.value)}" for a in given)
        return f"{_method(node)}({', '.join(words)})"
    return ""


def _coordinates(step: Step) -> list[Any]:
    """The indices of a step, to the first that no axis can be told of."""
    if step.place is not None:
        return [step.place]
    found = []
    for element in step.node.slice if isinstance(step.node, cst.Subscript) else ():
        index: Any = element.slice
        value = getattr(index, "value", None)
        if isinstance(value, cst.Ellipsis) or dotted(value) == "None":
            break
        found.append(index)
    return found


def _range(index: Any) -> tuple[Any, Any]:
    """Where an index begins and ends; None of a bound that is not known."""
    number = index if isinstance(index, int) else _number(getattr(index, "value", None))
    if number is not None:
        return number, number + 1 if number != -1 else _END
    if isinstance(index, cst.Slice):
        if index.step is not None:
            return _START, _END
        low, high = index.lower, index.upper
        start = _START if low is None else _bound(low)
        return start, _END if high is None else _bound(high)
    return getattr(index, "value", None), None


def _bound(node: Any) -> Any:
    number = _number(node)
    return node if number is None else number


def _number(node: Any) -> int | None:
    if isinstance(node, cst.Integer):
        return int(node.evaluated_value)
    negative = isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus)
    inner = _number(node.expression) if negative else None
    return None if inner is None else -inner


def _keys_apart(one: Any, other: Any) -> bool:
    """Whether two keys of a dict are different strings; computed ones are told by their text."""
    texts = [getattr(index, "value", None) for index in (one, other)]
    if not all(isinstance(text, cst.BaseExpression) and _is_text(text) for text in texts):
        return False
    return code(texts[0]) != code(texts[1])


def _is_text(node: Any) -> bool:
    joined = isinstance(node, cst.BinaryOperation)
    return isinstance(node, cst.BaseString) or (
        joined and (_is_text(node.left) or _is_text(node.right))
    )


def _counts_up(over: Any, index: cst.Name, target: Any) -> bool:
    """Whether a loop gives an index each number once, none of them below zero."""
    if not isinstance(over, cst.Call):
        return False
    name, given = dotted(over.func), [a.value for a in over.args]
    if name == "enumerate" and len(given) == 1 and isinstance(target, cst.Tuple):
        return dotted(target.elements[0].value) == index.value
    from_zero = len(given) == 1 or (len(given) == 2 and (_number(given[0]) or 0) >= 0)
    known = len(given) == 1 or (len(given) == 2 and _number(given[0]) is not None)
    return name == "range" and from_zero and known and dotted(target) == index.value


def _folds(node: Any) -> bool:
    name = _method(node)
    if name == "unfold" and isinstance(node, cst.Call) and len(node.args) == 3:
        size, step = (_number(a.value) for a in node.args[1:])
        return size is None or step is None or step < size
    return name in _FOLDED
