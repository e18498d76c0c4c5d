"""What torch.export decides about lengths while it traces: every condition that it takes as
settled, and the line of the model that asked.

The exported program alone does not say it: a loop over a length leaves its turns, `if n <= 8`
leaves one branch, and a length that is compared with 1 leaves nothing at all, since torch takes
free lengths to be 2 or more.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch2mlx.export.capture.conditions import Asked, Condition, needs
from torch2mlx.export.capture.length_algebra import Algebra, certain, simplified
from torch2mlx.export.capture.patched import replaced
from torch2mlx.export.capture.positions import tables
from torch2mlx.export.ir.provenance import size_hint

Way = tuple[Any, ...]

#: Files that carry a question about a length on; whoever asked is further out.
_CARRIERS: tuple[str, ...] = (
    "symbolic_shapes.py",
    "sym_node.py",
    "recording.py",
    "torch/__init__.py",
)
_CARRIERS += ("functools.py", "contextlib.py", "_sympy", "sympy/", "_stats.py")
_CARRIERS += ("_export/non_strict_utils.py",)  # has min and max of its own while it exports
#: Comparisons of lengths; torch answers those with 0 and 1 without a guard.
_RELATIONS = ("gt", "ge", "lt", "le", "eq", "ne")
_OPPOSITE = {"gt": "le", "le": "gt", "ge": "lt", "lt": "ge", "eq": "ne", "ne": "eq"}
#: Sizes that are tried for one condition of several lengths.
_PROBES = 4
#: Where SymInt and SymBool become Python's own numbers and truths.
_NUMBERS = "torch/__init__.py"
#: Functions of torch that ask how memory would be laid out: the numbers are the same either way.
_LAYOUT = {
    "_prims_common/__init__.py": (),
    "_refs/__init__.py": ("_reshape_view_helper", "_reshape_view_helper_core_alg"),
    "_meta_registrations.py": ("meta_copy_",),
}
#: Those that ask what must hold, where MLX's own operator raises an error as torch's does.
_OPERATORS = {
    "_meta_registrations.py": ("meta_mm", "common_meta_baddbmm_bmm"),
    "_subclasses/fake_impls.py": ("conv",),
    "_prims/__init__.py": ("_cat_meta",),
}


@dataclass(frozen=True)
class Turn:
    """What torch takes for granted where it takes lengths to be 2 or more: a comparison and its
    sides, or an expression of sympy; and sizes at which it is not so."""

    settled: Any
    sizes: tuple[tuple[tuple[Any, int], ...], ...]

    def condition(self, environment: Any) -> Any:
        """The expression that has to hold, of the lengths that are left."""
        import sympy

        if not isinstance(self.settled, tuple):
            return environment.replace(self.settled)
        name, *sides = self.settled
        sides = [environment.replace(sympy.sympify(side)) for side in sides]
        if name == "not_":
            return sympy.Not(sides[0])
        relation = getattr(sympy, name.capitalize())
        if not any(side.free_symbols for side in sides):
            return relation(*sides)
        return relation(*sides, evaluate=False)  # torch's lengths are never 0 to sympy


@dataclass
class Watch:
    """What was settled while one model was traced."""

    environment: Any = None
    algebra: Algebra = field(default_factory=Algebra)
    asked: dict[int, Asked] = field(default_factory=dict)  # by the place in the list of guards
    #: what answers rest on that would be others at lengths of 0 or 1, and who asked
    small: dict[Turn, Asked] = field(default_factory=dict)
    _turns: dict[Any, tuple[Any, ...]] = field(default_factory=dict)  # of what was asked before

    def note(self, environment: Any, expression: Any, answer: Any, before: int) -> None:
        """One question, its answer, and how many guards there were before."""
        if environment is not self.environment:
            self.environment, self._turns = environment, {}
        if len(environment.guards) > before:
            asked = _asking(sys._getframe(2))
            for place in range(before, len(environment.guards)):
                self.asked.setdefault(place, asked)
        elif getattr(expression, "is_Boolean", False) or getattr(expression, "is_Relational", 0):
            settled = expression if answer else ("not_", expression)
            turns = self._turned(
                settled, expression.xreplace, expression.free_symbols, bool(answer)
            )
            self._rests_on(turns)

    def compared(self, name: str, one: Any, other: Any, answer: bool) -> None:
        """A comparison of two lengths that torch answers by what it takes for granted alone."""
        environment, sides = one.shape_env, (one.expr, other.expr)
        symbols = sides[0].free_symbols | sides[1].free_symbols
        if not symbols:
            return
        if environment is not self.environment:
            self.environment, self._turns = environment, {}

        def compute(values: Any) -> Any:
            return getattr(operator, name)(*(side.xreplace(values) for side in sides))

        settled = (name if answer else _OPPOSITE[name], *sides)
        self._rests_on(self._turned(settled, compute, symbols, answer), True)

    def _rests_on(self, turns: tuple[Any, ...], python: bool = False) -> None:
        """Notes who asked what would have another answer at lengths of 0 or 1."""
        for turn in turns:
            if turn not in self.small:
                asked = _asking(sys._getframe(3))
                if (asked.python or python) and (not asked.file or asked.file.startswith("nn/")):
                    self.small[turn] = replace(asked, python=True)

    def _turned(self, settled: Any, compute: Any, symbols: Any, answer: bool) -> tuple[Turn, ...]:
        if settled not in self._turns:
            known = getattr(self.environment, "backed_var_to_val", {})
            self._turns[settled] = tuple(_turned(known, settled, compute, symbols, answer))
        return self._turns[settled]


def _turned(known: Any, settled: Any, compute: Any, symbols: Any, answer: bool) -> Iterator[Turn]:
    """What a settled answer rests on, with lengths of 0 and 1 that turn it; `compute` gives the
    answer for other lengths. Of one length that is that number; of several it is what was asked."""
    import sympy

    if not symbols or not all(symbol in known for symbol in symbols):
        return
    usual = {symbol: known[symbol] for symbol in symbols}
    found = []
    for sizes in _small_sizes(usual):
        try:
            other = compute({**usual, **{s: sympy.Integer(n) for s, n in sizes}})
        except (ArithmeticError, AssertionError, ValueError, TypeError):
            continue  # there is no such length: the root of a negative one, say
        if other in (sympy.true, sympy.false, True, False) and bool(other) != answer:
            found.append(sizes)
    if len(symbols) > 1:
        yield from [Turn(settled, tuple(found[:_PROBES]))] if found else ()
        return
    for sizes in found:
        yield Turn(("ne", *sizes[0]), (sizes,))


def _small_sizes(usual: Mapping[Any, Any]) -> Iterator[tuple[tuple[Any, int], ...]]:
    """Lengths of 0 and 1: all lengths as small at once first, then one with the others as they
    are, then beside small ones."""
    symbols = sorted(usual, key=str)
    if len(symbols) > 1:
        yield tuple((symbol, 1) for symbol in symbols)
    for number in (0, 1):
        for symbol in symbols:
            yield ((symbol, number),)
            if len(symbols) > 1:
                yield tuple((s, number if s is symbol else 2) for s in symbols)


def _reached(environment: Any, size: Sequence[tuple[Any, int]]) -> tuple[tuple[Any, int], ...]:
    """That size in the lengths that are left when equal ones have become one; empty where no inputs
    have it: two numbers for one length, or another number for a fixed one."""
    found: dict[Any, int] = {}
    for symbol, number in size:
        length = environment.replace(symbol)
        if length.is_number:
            if length != number:
                return ()
        elif found.setdefault(length, number) != number:
            return ()
    return tuple(found.items())


@dataclass(frozen=True, slots=True)
class _Origin:
    """What the name of a frame's file says."""

    ours: bool
    carries: bool  # asks for others
    numbers: bool  # makes a Python number of a length
    torch: str  # the name within torch; "" elsewhere
    written: bool  # a file, not "<string>"


@functools.lru_cache(maxsize=4096)
def _origin(name: str) -> _Origin:
    import torch

    home = os.path.dirname(torch.__file__) + os.sep
    ours = name.startswith(str(Path(__file__).parents[2]) + os.sep)
    carries = ours or any(part in name for part in _CARRIERS)
    within = name.removeprefix(home) if name.startswith(home) else ""
    return _Origin(ours, carries, name.endswith(_NUMBERS), within, not name.startswith("<"))


def _asking(frame: Any) -> Asked:
    """Who asks, of the innermost frame: the outermost frames are the user's."""
    file = function = ""
    first, python = True, False
    while frame is not None:
        code = frame.f_code
        origin = _origin(code.co_filename)
        if origin.ours and code.co_name == "trace":
            break  # further out is who called translate
        python |= first and origin.numbers
        if not origin.carries:
            if first:
                first, file, function = False, origin.torch, code.co_name
            if not origin.torch and origin.written:
                line = f"{os.path.basename(code.co_filename)}:{frame.f_lineno}"
                return Asked(file, function, line, python)
        frame = frame.f_back
    return Asked(file, function, "", python)


@contextmanager
def watched() -> Iterator[Watch]:
    """While open, every question about a length is noted."""
    from torch.fx.experimental.sym_node import SymNode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    original = ShapeEnv.evaluate_expr

    def evaluate(self: Any, expression: Any, *args: Any, **kwargs: Any) -> Any:
        before = len(self.guards)
        answer = original(self, expression, *args, **kwargs)
        watch.note(self, expression, answer, before)
        for place, guard in enumerate(self.guards[before:], before):
            if not watch.asked[place].among(_LAYOUT):  # that is no question of what is right
                watch.algebra.found(self, guard.expr)
        return answer

    with ExitStack() as stack:
        watch = Watch(algebra=stack.enter_context(simplified()))
        stack.enter_context(replaced(ShapeEnv, "evaluate_expr", evaluate))
        for name in _RELATIONS:
            comparing = _comparing(watch, name, getattr(SymNode, name))
            stack.enter_context(replaced(SymNode, name, comparing))
        yield watch


def _comparing(watch: Watch, name: str, compare: Any) -> Any:
    import sympy

    def comparing(one: Any, other: Any) -> Any:
        made = compare(one, other)
        answer = getattr(made, "_expr", None)
        if answer is sympy.true or answer is sympy.false:
            watch.compared(name, one, other, bool(answer))
        return made

    return comparing


@dataclass(frozen=True)
class Axis:
    """An axis of an argument: the way to the argument, its number, its length in the example;
    `expression` says what became of it: a number where it is fixed, else of torch's symbols."""

    way: Way
    number: int
    length: int
    expression: Any
    asked: Asked | None = None  # who fixed it; None where it never was free

    @property
    def free(self) -> bool:
        """Whether it may have other lengths."""
        return not isinstance(self.expression, int)


@dataclass(frozen=True)
class Kind:
    """The "rank" or "dtype" that an argument must have: the example's, and those for which the
    program is `right` and `wrong`; `line` is that of the model which asks for it."""

    way: Way
    name: str
    own: Any
    right: tuple[Any, ...]
    wrong: tuple[Any, ...]
    line: str = ""


@dataclass(frozen=True)
class Lengths:
    """The axes of all arguments, and what the program takes for granted about those that vary;
    `kinds` are the ranks and dtypes that other branches of the model ask for, `modes` the lines
    that branch on the mode, and `training` that of the program."""

    axes: tuple[Axis, ...] = ()
    conditions: tuple[Condition, ...] = ()
    kinds: tuple[Kind, ...] = ()
    modes: tuple[str, ...] = ()
    training: bool = False

    @property
    def shapes(self) -> dict[Way, tuple[Any, ...]]:
        """The lengths of each argument: a number where it is fixed, else its expression."""
        found: dict[Way, tuple[Any, ...]] = {}
        for axis in self.axes:
            length = str(axis.expression) if axis.free else axis.length
            found[axis.way] = (*found.get(axis.way, ()), length)
        return found

    def without(self, conditions: Collection[Condition]) -> Lengths:
        """The same without some conditions."""
        return replace(self, conditions=tuple(c for c in self.conditions if c not in conditions))


def lengths_of(program: Any, ways: tuple[Way, ...], watch: Watch) -> Lengths:
    """Those of an exported program; `ways` are those to its arguments, in order."""
    environment = watch.environment
    fixing, conditions = _settled(environment, watch) if environment else ({}, [])
    known = {condition.expression for condition in conditions}
    more = (*needs(program.graph_module), *tables(program))
    conditions += [c for c in more if c.expression not in known]
    axes = []
    for way, value in zip(ways, _arguments(program), strict=True):
        for number, size in enumerate(getattr(value, "shape", ())):
            axes.append(_axis(way, number, size, fixing))
    return Lengths(tuple(axes), tuple(conditions))


def _arguments(program: Any) -> list[Any]:
    specs = program.graph_signature.input_specs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    pairs = zip(specs, nodes, strict=True)
    return [node.meta.get("val") for spec, node in pairs if spec.kind.name == "USER_INPUT"]


def _axis(way: Way, number: int, size: Any, fixing: Mapping[Any, Asked]) -> Axis:
    if isinstance(size, int):
        return Axis(way, number, size, size)
    expression, symbol = size.node.expr, size.node._expr
    length = size_hint(size) or 0
    if not expression.is_number:
        return Axis(way, number, length, expression)
    return Axis(way, number, length, int(expression), fixing.get(symbol, Asked()))


def _matters(condition: Any, asked: Asked) -> bool:
    """Whether the program could be another one where a condition fails.

    A statement of the model, or of torch.nn, asks in order to branch. torch's core asks on the way
    through an operator, which stays one operator here: how memory lies, or what MLX refuses too.
    What is left of that are plain comparisons of lengths, which a result's shape may rest on.
    """
    import sympy

    if asked.python and (not asked.file or asked.file.startswith("nn/")):
        return True
    if asked.among(_LAYOUT) or asked.among(_OPERATORS) or isinstance(condition, sympy.Ne):
        return False
    if not isinstance(condition, sympy.core.relational.Relational):
        return False
    number = any(side.is_number for side in condition.args)
    core = not asked.python and asked.file in ("", "_ops.py")
    kept = number or not core or isinstance(condition, sympy.Eq)
    return bool(kept) and all(_plain(side) for side in condition.args)


def _elsewhere(environment: Any, condition: Any) -> tuple[tuple[Any, int], ...]:
    """Of a length that is what a quotient of another leaves, and was taken for a number: the next
    size at which it is another number; () of other conditions."""
    import sympy
    from torch.utils._sympy.functions import FloorDiv, Mod

    free = condition.free_symbols
    if not isinstance(condition, sympy.Eq) or len(free) != 1 or condition.has(Mod):
        return ()
    if not condition.has(FloorDiv) or not any(side.is_number for side in condition.args):
        return ()
    (symbol,) = free
    usual = int(environment.backed_var_to_val[symbol])
    for length in range(usual + 1, 4 * usual + 2):
        if condition.subs(symbol, length) == sympy.false:
            return ((symbol, length),)
    return ()


def _plain(side: Any) -> bool:
    """Whether one side of a comparison is a number, or a length times or plus a number."""
    return side.is_number or (len(side.free_symbols) == 1 and side.is_polynomial())


def _settled(environment: Any, watch: Watch) -> tuple[dict[Any, Asked], list[Condition]]:
    """Who fixed which symbol; and the conditions that are left once fixed ones are put in."""
    import sympy

    fixing: dict[Any, Asked] = {}
    conditions: dict[Any, Condition] = {}
    asked_by = [
        (guard.expr, watch.asked.get(place, Asked("unknown")))
        for place, guard in enumerate(environment.guards)
    ]
    for expression, asked in asked_by:
        for symbol in expression.free_symbols:
            if isinstance(expression, sympy.Eq):
                fixing[symbol] = asked
        left = environment.replace(expression)
        if left in (sympy.true, sympy.false) or certain(left):
            continue
        if expression in watch.algebra.used or _matters(left, asked):
            conditions.setdefault(left, Condition(left, asked))
        elif elsewhere := _elsewhere(environment, left):
            conditions.setdefault(left, Condition(left, asked, (elsewhere,)))
    for turn, asked in watch.small.items():
        left = turn.condition(environment)
        if left.free_symbols and left not in (sympy.true, sympy.false):
            sizes = tuple(filter(None, (_reached(environment, size) for size in turn.sizes)))
            if sizes:
                conditions.setdefault(left, Condition(left, asked, sizes))
    return fixing, list(conditions.values())
