"""Numbers that were read from a length that varies: where one is written into the file, the file is
right for that length alone, and has to check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch2mlx.export.ir.arguments import leaves_of


class Measured(int):
    """A length of the example; `of` names the lengths that it was computed from."""

    of: frozenset[Any] = frozenset()


def measured(number: int, of: frozenset[Any]) -> Measured:
    """A number computed from lengths."""
    made = Measured(number)
    made.of = of
    return made


def _keeps_track(name: str) -> Any:
    plain = getattr(int, name)

    def compute(self: Measured, *others: Any) -> Any:
        made = plain(self, *others)
        of = self.of.union(*(other.of for other in others if isinstance(other, Measured)))
        if isinstance(made, tuple):
            return tuple(measured(part, of) for part in made)
        return measured(made, of) if type(made) is int else made

    compute.__name__ = name
    return compute


for _name in ("add", "sub", "mul", "floordiv", "mod", "divmod", "pow"):
    setattr(Measured, f"__{_name}__", _keeps_track(f"__{_name}__"))
    setattr(Measured, f"__r{_name}__", _keeps_track(f"__r{_name}__"))
Measured.__neg__ = _keeps_track("__neg__")  # type: ignore[method-assign]


def shape_of(lengths: Sequence[int], dims: Sequence[Any] | None) -> tuple[int, ...]:
    """Lengths of the example, those that vary measured."""
    if dims is None or len(dims) != len(lengths):
        return tuple(lengths)
    pairs = zip(lengths, dims, strict=True)
    return tuple(measured(n, frozenset((d,))) if isinstance(d, str) else n for n, d in pairs)


def plainly(value: Any, found: set[Any]) -> Any:
    """An argument with plain numbers; `found` collects the lengths that they were read from."""
    if isinstance(value, Measured):
        found.update(value.of)
        return int(value)
    if isinstance(value, (tuple, list)):
        return type(value)(plainly(item, found) for item in value)
    if isinstance(value, slice):
        return slice(*(plainly(part, found) for part in (value.start, value.stop, value.step)))
    if isinstance(value, Mapping):
        return {key: plainly(item, found) for key, item in value.items()}
    return value


def holds(value: Any) -> bool:
    """Whether an argument holds a number that was read from a length."""
    return any(True for _ in leaves_of(Measured, value))
