"""Expressions of a model's fields that give certain numbers at certain sizes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch2mlx.export.sizes.fields import Field

_FACTORS = (2, 3, 4, 5, 6, 8)
_TERMS = (1, 2, 3, 4)
#: Of a number that is printed as float32 has it, of one with all its digits, of any other.
_FLOAT32, _EXACT = 1.2e-7, 1e-14
_LONG = 10
#: Floats that are made of a whole number; the last are slopes of attention by distance.
_OF_WHOLE: Mapping[str, Callable[[Any], float]] = {
    "{} ** -0.5": lambda v: v**-0.5,
    "{} ** 0.5": lambda v: v**0.5,
    "1 / {}": lambda v: 1 / v,
    "2 ** (-8 / {})": lambda v: 2 ** (-8 / v),
}
#: Which of the levels floats are made of: fields, with a number, two, and quotients.
_SIMPLE = (True, True, True, True)
_FREQUENCIES = "[{} ** (-i / {}) for i in range(0, {}, 2)]"


@dataclass(frozen=True)
class Expression:
    """An expression of fields: `form` has {0}, {1} in their places; `values` are its own at each
    of the sizes. `bare`: it is a factor as it stands."""

    form: str
    fields: tuple[Field, ...]
    values: tuple[Any, ...]
    bare: bool = True
    #: Whether it stands as a factor on the right too, and in a product on the left.
    product: bool = True

    def text(self, names: Mapping[Field, str]) -> str:
        """The expression in Python; `names` are the texts of its fields."""
        return self.form.format(*(names[field] for field in self.fields))

    def gives(self, text: str, sizes: Mapping[Any, Any]) -> bool:
        """Whether it is a number of the file at some sizes."""
        named = {f: repr(sizes[f.way]) for f in self.fields}
        value = eval(self.text(named), {"__builtins__": {"float": float, "range": range}})
        if isinstance(value, list):
            return _alike(_table(text), value)
        if _is_float(text) != (type(value) is float):
            return False
        number = float(text) if _is_float(text) else int(text)
        return _near([value], [number], [text]) if _is_float(text) else value == number

    @property
    def parts(self) -> int:
        """How many fields and numbers it is made of."""
        return len(self.fields) + len(re.findall(r"(?<![{\w.])\d", self.form))

    @property
    def factor(self) -> str:
        """Its form as the right side of a product."""
        return self.form if self.bare else f"({self.form})"

    @property
    def left(self) -> str:
        """Its form as the left side of a product."""
        return self.form if self.product else f"({self.form})"


def joined(one: Expression, sign: str, other: Expression, values: Iterable[Any]) -> Expression:
    """Two expressions as one."""
    shift = {i: f"{{{i + len(one.fields)}}}" for i in range(len(other.fields))}
    product = sign in ("*", "//")
    right = (other.factor if product or sign == "-" else other.form).format(
        *(shift[i] for i in range(len(other.fields)))
    )
    left = one.left if product else one.form
    fields = (*one.fields, *other.fields)
    return Expression(f"{left} {sign} {right}", fields, tuple(values), False, product)


def with_number(one: Expression, sign: str, number: int, even: bool = True) -> Expression | None:
    """An expression and a number; None where it does not come out `even`, and has to."""
    if sign == "*":
        values = tuple(number * v for v in one.values)
        return replace(
            one, form=f"{number} * {one.factor}", values=values, bare=False, product=True
        )
    if sign == "//":
        if even and any(v % number for v in one.values):
            return None
        values = tuple(v // number for v in one.values)
        return replace(one, form=f"{one.left} // {number}", values=values, bare=False, product=True)
    values = tuple(v + number if sign == "+" else v - number for v in one.values)
    return replace(
        one, form=f"{one.form} {sign} {number}", values=values, bare=False, product=False
    )


class Expressions:
    """All expressions of some fields, simple ones first, by their values at the sizes."""

    def __init__(self, fields: Sequence[Field], sizes: Sequence[Mapping[Any, Any]]) -> None:
        plain = [Expression("{0}", (f,), tuple(s[f.way] for s in sizes)) for f in fields]
        moving = [e for e in plain if len(set(e.values)) > 1]
        self._whole = [e for e in moving if all(type(v) is int for v in e.values)]
        self._real = [e for e in moving if e not in self._whole]
        self._coming = _levels(self._whole)
        self._levels: list[dict[tuple[Any, ...], list[Expression]]] = []

    def of(self, texts: Sequence[str]) -> list[Expression]:
        """The simplest expressions that give these numbers; several where they are as simple."""
        if any(t.startswith("[") for t in texts):
            return list(self._tables([_table(t) for t in texts]))
        numbers = [float(t) if _is_float(t) else int(t) for t in texts]
        if any(type(n) is float for n in numbers):
            return _differing(self._floats(numbers, texts))
        for held in self._all():
            if tuple(numbers) in held:
                return _differing(held[tuple(numbers)])
        return []

    def _all(self) -> Iterator[dict[tuple[Any, ...], list[Expression]]]:
        """The levels by their values, made when they are first asked for."""
        yield from self._levels
        for level in self._coming:
            held: dict[tuple[Any, ...], list[Expression]] = {}
            for e in level:
                held.setdefault(e.values, []).append(e)
            self._levels.append(held)
            yield held

    def _tables(self, tables: Sequence[Sequence[float]]) -> Iterator[Expression]:
        """Powers of a number, that fall from 1: the frequencies of rotary positions."""
        for level in itertools.compress(self._all(), _SIMPLE):
            whole = [e for held in level.values() for e in held]
            for base in self._real:
                for width in whole:
                    places = [f"{{{i}}}" for i in range(1, 1 + len(width.fields))]
                    within = [width.factor.format(*places), width.form.format(*places)]
                    form = _FREQUENCIES.format("{0}", *within)
                    table = Expression(form, (*base.fields, *width.fields), ())
                    pairs = zip(tables, base.values, width.values, strict=True)
                    if all(_alike(t, _frequencies(b, w)) for t, b, w in pairs):
                        yield table
                        return

    def _floats(self, numbers: Sequence[float], texts: Sequence[str]) -> list[Expression]:

        def alike(some: Iterable[Expression]) -> list[Expression]:
            return [e for e in some if _near(e.values, numbers, texts)]

        scaled = (_times(e, c) for e in self._real for c in (2.0, 0.5, -1.0))
        found = alike(self._real) or alike(scaled) or alike(_rest(self._real))
        for level in itertools.compress(self._all(), _SIMPLE):
            found = found or alike(_powers([e for held in level.values() for e in held]))
        return found or alike(_scaled_powers(self._real, self._whole))


def _table(text: str) -> list[float]:
    return [float(item) for item in text.strip("[]").split(",")]


def _frequencies(base: float, width: int) -> list[float]:
    return [base ** (-i / width) for i in range(0, width, 2)]


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two tables are the same as float32 has it, where a power is off in its last place."""
    if len(one) != len(other):
        return False
    return all(math.isclose(a, b, rel_tol=8 * _FLOAT32) for a, b in zip(one, other, strict=True))


def _is_float(text: str) -> bool:
    return any(sign in text for sign in ".e")


def _near(values: Sequence[Any], numbers: Sequence[float], texts: Sequence[str]) -> bool:
    for value, number, text in zip(values, numbers, texts, strict=True):
        digits = sum(map(str.isdigit, text.partition("e")[0].lstrip("0.")))
        allowed = _EXACT if digits >= _LONG else _FLOAT32
        if not math.isclose(value, number, rel_tol=allowed):
            return False
    return True


def _differing(found: list[Expression]) -> list[Expression]:
    """Expressions without those of the same fields that say the same."""
    kept: dict[Any, Expression] = {}
    for e in found:
        kept.setdefault(frozenset(f.way for f in e.fields), e)
    return list(kept.values())


def _times(e: Expression, c: float) -> Expression:
    return replace(e, form=f"{e.left} * {c}", values=tuple(v * c for v in e.values), bare=False)


def _rest(real: Sequence[Expression]) -> Iterator[Expression]:
    """1 without each."""
    for e in real:
        yield replace(
            e,
            form=f"1 - {e.factor}",
            values=tuple(1 - v for v in e.values),
            bare=False,
            product=False,
        )


def _powers(level: Sequence[Expression]) -> Iterator[Expression]:
    for e in level:
        if any(v <= 0 for v in e.values):
            continue
        for form, made in _OF_WHOLE.items():
            values = tuple(made(v) for v in e.values)
            yield replace(e, form=form.replace("{}", e.factor), values=values, bare=False)
        yield replace(e, form=f"float({e.form})", values=tuple(map(float, e.values)), bare=True)


def _scaled_powers(real: Sequence[Expression], whole: Sequence[Expression]) -> Iterator[Expression]:
    for e in real:
        for power in _powers(whole):
            values = (a * b for a, b in zip(e.values, power.values, strict=True))
            yield joined(e, "*", power, values)


def _levels(fields: Sequence[Expression]) -> Iterator[list[Expression]]:
    """Whole numbers: fields; with a number; two; quotients that leave a rest; two and a number;
    three; what is made of such quotients."""
    yield list(fields)
    single = list(_numbered(fields))
    yield single
    pairs = list(_pairs(fields, fields))
    yield pairs
    quotients = list(_quotients(fields))
    yield quotients
    yield [*_numbered(pairs), *_pairs(fields, single), *_pairs(single, fields)]
    yield [*_pairs(pairs, fields), *_pairs(fields, pairs), *_numbered(single)]
    yield [
        *_numbered(quotients, even=False),
        *_pairs(fields, quotients),
        *_pairs(quotients, fields),
    ]


def _numbered(of: Sequence[Expression], even: bool = True) -> Iterator[Expression]:
    for e in of:
        yield from (with_number(e, "*", c) for c in _FACTORS)  # type: ignore[misc]
        for sign, numbers in (("//", _FACTORS), ("+", _TERMS), ("-", _TERMS)):
            yield from filter(None, (with_number(e, sign, c, even) for c in numbers))


def _quotients(fields: Sequence[Expression]) -> Iterator[Expression]:
    """Of two fields each: those that leave a rest somewhere."""
    for a in fields:
        for b in fields:
            both = list(zip(a.values, b.values, strict=True))
            if all(0 < y < x for x, y in both) and any(x % y for x, y in both):
                yield joined(a, "//", b, (x // y for x, y in both))


def _pairs(left: Sequence[Expression], right: Sequence[Expression]) -> Iterator[Expression]:
    for a in left:
        for b in right:
            both = list(zip(a.values, b.values, strict=True))
            if a is not b or len(left) == 1:
                yield joined(a, "+", b, (x + y for x, y in both))
                yield joined(a, "-", b, (x - y for x, y in both))
            yield joined(a, "*", b, (x * y for x, y in both))
            if a is not b and all(y and x % y == 0 for x, y in both):
                yield joined(a, "//", b, (x // y for x, y in both))
