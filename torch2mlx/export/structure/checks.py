"""What the emitted `__call__` checks of its arguments' lengths: those that are fixed, those that
have to be equal, and the conditions under which torch would have run the same program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.capture.conditions import Asked, Condition
from torch2mlx.export.capture.guards import Axis, Kind, Lengths, Way
from torch2mlx.export.ir.nodes import Program, last_order
from torch2mlx.export.ir.render import literal
from torch2mlx.export.structure.sure import Refused

#: What frees a length that nothing in the model fixes.
_AGAIN = "translate again for it"
#: What no expression within an f-string may hold before Python 3.12.
_HARD = re.compile(r"['\\{}]")
_TIMES = re.compile(r"(?<!\*)\*(?!\*)")
#: What torch calls functions of math that take its lengths too.
_LENGTHS_ROOT = re.compile(r"\btorch\._sym_(\w+)\(")
_DIGITS = re.compile(r"\b\d+\.\d{12,}(?:e[-+]?\d+)?\b")
#: So many dtypes that are wrong are named, where there are more that are right.
_FEW = 2
#: Columns of a statement at the head of `__call__`.
_WIDTH = 92


@dataclass(frozen=True)
class Check:
    """A condition that must not hold; what the error says then, and what there is to do."""

    wrong: str
    told: str
    advice: str = ""

    def lines(self) -> list[str]:
        """The statements: two, where they are short enough."""
        said = f"{self.told}: {self.advice}" if self.advice else self.told
        short = f'    raise ValueError(f"{said}")'
        if len(short) <= _WIDTH:
            return [f"if {self.wrong}:", short]
        inner = [f'        f"{self.told}: "', f'        "{self.advice}"']
        if not self.advice:
            inner = [f'        f"{self.told}"']
        one, comma, other = inner[0].partition(", translated ")
        if len(inner[0]) > _WIDTH and comma:
            inner[:1] = [f'{one}, "', f'        "translated {other}']
        return [f"if {self.wrong}:", "    raise ValueError(", *inner, "    )"]


class Checks:
    """The checks of one program, in the order of its arguments."""

    def __init__(self, program: Program, lengths: Lengths, dynamic: bool, refused: Refused) -> None:
        self._program, self._lengths, self._dynamic = program, lengths, dynamic
        self._last = {i.path for i in program.inputs if i.channels_last}
        arrays = [i for i in program.inputs if i.node is not None and i.node.is_array]
        self._ranks = {i.path: i.node.ndim for i in arrays if i.node is not None}
        #: Arguments that hold caches, whose lengths are their offsets.
        self._caches = {i.path[0] for i in program.inputs if i.node and not i.node.is_array}
        self._refused = refused
        self._defined: dict[Any, Axis] = {}

    def all(self) -> list[Check]:
        """The mode and containers first, then ranks and dtypes, then lengths by argument, then what
        several lengths must meet."""
        found = [*_of_mode(self._lengths), *_containers(self._program)]
        found += map(_of_kind, self._lengths.kinds)
        for axes in self._by_argument():
            found += self._argument(axes)
        for condition in (*self._lengths.conditions, *self._numbers()):
            found += self._condition(condition)
        return list(dict.fromkeys(found))

    def _numbers(self) -> Iterator[Condition]:
        """That lengths which became numbers of the file are those of the example."""
        import sympy

        lengths = {s: sympy.Integer(axis.length) for s, axis in self._defined.items()}
        for dim in sorted(self._program.baked):
            number = dim.expression.xreplace(lengths)
            if number.is_number:
                yield Condition(sympy.Eq(dim.expression, number), Asked())

    def _by_argument(self) -> Iterator[list[Axis]]:
        ways = dict.fromkeys(axis.way for axis in self._lengths.axes)
        for way in ways:
            yield [axis for axis in self._lengths.axes if axis.way == way]

    def _argument(self, axes: Sequence[Axis]) -> Iterator[Check]:
        fixed, tied = [], []
        for axis in axes:
            if not axis.free:
                if not self._sure(axis):
                    fixed.append(axis)
            elif axis.expression.is_Symbol and axis.expression not in self._defined:
                self._defined[axis.expression] = axis
            else:
                tied.append(axis)
        for run in _runs(fixed, self._place):
            yield self._fixed(run)
        for run in _runs(tied, self._place, self._partner):
            yield from self._tied(run)

    def _sure(self, axis: Axis) -> bool:
        """Whether MLX itself raises an error for another length than the fixed one."""
        return (axis.way, self._place(axis)) in self._refused

    def _place(self, axis: Axis) -> int:
        """The axis's number in the emitted program."""
        if axis.way not in self._last:
            return axis.number
        return last_order(self._ranks[axis.way]).index(axis.number)

    def _length(self, axis: Axis) -> str:
        if axis.way[0] in self._caches:
            return f"length_of({shown(axis.way)})"
        return f"{shown(axis.way)}.shape[{self._place(axis)}]"

    def _fixed(self, run: Sequence[Axis]) -> Check:
        text = self._several(run)
        of = tuple(axis.length for axis in run)
        wanted = str(of[0]) if len(run) == 1 else str(of)
        told = f"{_inner(text)} is {_now(text)}, translated for {wanted}"
        return Check(f"{text} != {wanted}", told, self._why(run))

    def _why(self, run: Sequence[Axis]) -> str:
        """What fixed the lengths, and how to free them."""
        lines = dict.fromkeys(axis.asked.line for axis in run if axis.asked and axis.asked.line)
        if lines:
            return f"change {' and '.join(lines)} or {_AGAIN}"
        if not self._dynamic:
            return f"all shapes are fixed, {_AGAIN}"
        if all(axis.length == 1 for axis in run):
            return "give translate an example with 2 or more"
        return _AGAIN

    def _several(self, run: Sequence[Axis]) -> str:
        """The text of neighbouring lengths; of all of an argument's it is its shape."""
        if len(run) == 1:
            return self._length(run[0])
        places = [self._place(axis) for axis in run]
        name, rank = shown(run[0].way), self._ranks[run[0].way]
        start, end = places[0], places[-1] + 1
        if start == 0 and end == rank:
            return f"{name}.shape"
        return f"{name}.shape[{start or ''}:{'' if end == rank else end}]"

    def _partner(self, axis: Axis) -> Axis | None:
        return self._defined.get(axis.expression)

    def _tied(self, run: Sequence[Axis]) -> Iterator[Check]:
        """Lengths that have to be those of other arguments."""
        text = self._several(run)
        partners = [other for other in map(self._partner, run) if other is not None]
        other = self._several(partners) if partners else self._text(run[0].expression)
        if other is not None:
            told = f"{_inner(text)} is {_now(text)}, not {_now(other)} as {_inner(other)}"
            yield Check(f"{text} != {other}", told)

    def _condition(self, condition: Condition) -> Iterator[Check]:
        import sympy

        lengths = self._named(condition.expression)
        if lengths is None:
            return
        holds, fails = _printed(lengths), _printed(sympy.Not(lengths))
        if condition.table:
            length, most = map(_printed, lengths.args)
            told = f"{_inner(length)} is {_now(length)}"
            yield Check(fails, told, f"{condition.table} ends at {most}")
            return
        axes = [axis for s, axis in self._defined.items() if s in condition.expression.free_symbols]
        texts = [self._length(axis) for axis in axes]
        values = ", ".join(f"{_inner(text)} is {_now(text)}" for text in texts)
        line = condition.asked.line
        advice = f"change {line} or {_AGAIN}" if line else _AGAIN
        yield Check(fails, f"{values}, translated where {_inner(holds)}", advice)

    def _text(self, expression: Any) -> str | None:
        """An expression of lengths in Python; None where an argument does not tell one."""
        named = self._named(expression)
        return None if named is None else _printed(named)

    def _named(self, expression: Any) -> Any:
        """An expression of what lengths are called in the file, where they may be 0 too."""
        import sympy

        if not all(symbol in self._defined for symbol in expression.free_symbols):
            return None
        named = {
            symbol: sympy.Symbol(
                self._length(self._defined[symbol]), integer=True, nonnegative=True
            )
            for symbol in expression.free_symbols
        }
        return expression.xreplace(named)


def _of_mode(lengths: Lengths) -> Iterator[Check]:
    """That the model is in the mode of the program, where it branches on that."""
    if lengths.modes:
        told = f"self.training is {{self.training}}, translated for {lengths.training}"
        advice = f"change {' and '.join(lengths.modes)} or {_AGAIN}"
        yield Check("not self.training" if lengths.training else "self.training", told, advice)


def _of_kind(kind: Kind) -> Check:
    """The rank or the dtype of an argument: one of those that are right, or none of the few dtypes
    that are wrong."""
    text = f"{shown(kind.way)}.{'ndim' if kind.name == 'rank' else 'dtype'}"
    few = kind.name == "dtype" and len(kind.wrong) <= _FEW < len(kind.right)
    known = kind.wrong if few else (kind.own, *kind.right)
    names = sorted(known) if kind.name == "rank" else [f"mx.{name}" for name in known]
    listed = ", ".join(map(str, names))
    one = len(names) == 1
    test = ("==" if few else "!=") if one else ("in" if few else "not in")
    told = f"{_inner(text)} is {_now(text)}, translated for {kind.own}"
    advice = f"change {kind.line} or {_AGAIN}" if kind.line else _AGAIN
    return Check(f"{text} {test} {listed if one else f'({listed})'}", told, advice)


def _printed(expression: Any) -> str:
    from torch.utils._sympy.printers import PythonPrinter

    text = str(PythonPrinter().doprint(expression)).replace("torch.sym_float(", "float(")
    text = _LENGTHS_ROOT.sub(r"math.\1(", _TIMES.sub(" * ", text))
    return _DIGITS.sub(lambda number: repr(float(number[0])), text)


def _runs(axes: Sequence[Axis], place: Any, partner: Any = None) -> Iterator[list[Axis]]:
    """Axes that stand side by side; with a partner, those whose partners do so too."""
    run: list[Axis] = []
    for axis in sorted(axes, key=place):
        if run and not _follows(run[-1], axis, place, partner):
            yield run
            run = []
        run.append(axis)
    if run:
        yield run


def _follows(last: Axis, axis: Axis, place: Any, partner: Any) -> bool:
    if place(axis) != place(last) + 1:
        return False
    if partner is None:
        return True
    before, after = partner(last), partner(axis)
    if before is None or after is None or before.way != after.way:
        return False
    return bool(place(after) == place(before) + 1)


def shown(way: Way) -> str:
    """The text of an argument: `x`, `batch["ids"]`, `states[0]`."""
    return str(way[0]) + "".join(f"[{literal(key)}]" for key in way[1:])


def _inner(text: str) -> str:
    """A text as it stands within an f-string in double quotes."""
    if not _HARD.search(text):
        return text.replace('"', "'")
    for sign in ("\\", '"'):
        text = text.replace(sign, f"\\{sign}")
    return text.replace("{", "{{").replace("}", "}}")


def _now(text: str) -> str:
    """An expression whose value an f-string says; "?" where Python 3.11 cannot write it there."""
    return "?" if _HARD.search(text) else f"{{{_inner(text)}}}"


def _containers(program: Program) -> Iterator[Check]:
    """How many items an argument holds: a list, or a dict of arrays. Arguments of plain values
    alone may be left out of a call."""
    held: dict[Way, dict[Any, None]] = {}
    arrays = {i.path[0] for i in program.inputs if i.node is not None}
    for one in program.inputs:
        if one.path[0] not in arrays:
            continue
        for depth in range(1, len(one.path)):
            held.setdefault(one.path[:depth], {})[one.path[depth]] = None
    for way, keys in held.items():
        text, count = shown(way), len(keys)
        told = f"{_inner(text)} holds {_now(f'len({text})')} items, translated with {count}"
        yield Check(f"len({text}) != {count}", told, _AGAIN)
