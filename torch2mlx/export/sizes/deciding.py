"""What a model decides by its sizes: comparisons of whole numbers while it is made and called."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.sizes.fields import Field, Recipe, Way
from torch2mlx.export.sizes.reading import Sized, Values

_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_JOINS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
#: What these libraries compare are their own conditions.
_FOREIGN = ("torch", "numpy", "importlib", "functools")


@dataclass(frozen=True)
class Decision:
    """A comparison in Python: `form` has {0}, {1} in the places of fields."""

    form: str
    fields: tuple[Field, ...]

    @property
    def text(self) -> str:
        """The comparison in the file's names."""
        return self.form.format(*(field.text for field in self.fields))

    def at(self, values: Values) -> bool | None:
        """What comes of it at some sizes; None where a number is divided by 0."""
        given = self.form.format(*(repr(values.get(f.way, f.value)) for f in self.fields))
        try:
            return bool(eval(given, {"__builtins__": {}}))
        except ZeroDivisionError:
            return None


class _Watched(int):
    """A whole number that says what it is compared with. `note` takes each comparison."""

    form: str
    fields: tuple[Field, ...]
    note: Callable[[Decision], None]

    def __deepcopy__(self, memo: Any) -> _Watched:
        return self

    def __reduce__(self) -> Any:
        return int, (int(self),)


def _watched(value: int, form: str, fields: tuple[Field, ...], note: Any) -> _Watched:
    made = _Watched(value)
    made.form, made.fields, made.note = form, fields, note
    return made


def _parts(other: Any, start: int) -> tuple[str, tuple[Field, ...]]:
    """The text of the other side, its fields numbered from `start` on."""
    if isinstance(other, _Watched):
        places = (f"{{{i}}}" for i in range(start, start + len(other.fields)))
        return other.form.format(*places), other.fields
    return repr(int(other)), ()


def _compare(sign: str) -> Callable[[_Watched, Any], Any]:
    def compare(self: _Watched, other: Any) -> Any:
        found = _ORDERS[sign](int(self), int(other) if isinstance(other, _Watched) else other)
        if type(other) in (int, _Watched) and int(other) > 0 and not _foreign():
            text, fields = _parts(other, len(self.fields))
            self.note(Decision(f"{self.form} {sign} {text}", (*self.fields, *fields)))
        return found

    return compare


def _join(sign: str, turned: bool) -> Callable[[_Watched, Any], Any]:
    def join(self: _Watched, other: Any) -> Any:
        if type(other) not in (int, _Watched):
            return NotImplemented
        left, right = (other, self) if turned else (self, other)
        value = _JOINS[sign](int(left), int(right))
        first, fields = _parts(left, 0)
        second, more = _parts(right, len(fields))
        return _watched(value, f"({first} {sign} {second})", (*fields, *more), self.note)

    return join


def _foreign() -> bool:
    """Whether a library compares."""
    name = sys._getframe(2).f_globals.get("__name__", "")
    return str(name).partition(".")[0] in _FOREIGN


for _sign, _name in (("<", "lt"), ("<=", "le"), (">", "gt"), (">=", "ge")):
    setattr(_Watched, f"__{_name}__", _compare(_sign))
for _sign, _name in (("+", "add"), ("-", "sub"), ("*", "mul"), ("//", "floordiv"), ("%", "mod")):
    setattr(_Watched, f"__{_name}__", _join(_sign, False))
    setattr(_Watched, f"__r{_name}__", _join(_sign, True))


def decisions(recipe: Recipe, fields: Sequence[Field], at: Sized) -> set[Decision]:
    """What a model compares at some sizes; nothing for one that takes no whole numbers but
    Python's own."""
    import torch

    found: set[Decision] = set()
    given: dict[Way, Any] = dict(at.values)
    for field in fields:
        if type(field.value) is int:
            given[field.way] = _watched(given[field.way], "{0}", (field,), found.add)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            recipe.make(given)(*at.args, **at.kwargs)
    except Exception:  # whatever a model raises for numbers of another class
        return set()
    return found
