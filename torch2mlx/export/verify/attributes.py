"""Attributes of its modules, and of their classes, that a forward changes: numbers, lists, tensors
that are no buffers."""

from __future__ import annotations

from collections import deque
from typing import Any

_TORCHS = frozenset({"_parameters", "_buffers", "_modules"})


class Attributes:
    """The attributes of a model's modules as they are now, to see which of them change."""

    def __init__(self, model: Any) -> None:
        self._modules = dict(model.named_modules())
        self._before = self._now()

    def _now(self) -> dict[str, list[Any]]:
        found = {
            f"{path}.{name}".lstrip("."): _held(value)
            for path, module in self._modules.items()
            for name, value in vars(module).items()
            if name not in _TORCHS
        }
        kinds = {kind for module in self._modules.values() for kind in type(module).__mro__}
        for kind in kinds:
            if kind is not object and kind.__module__.partition(".")[0] != "torch":
                names = (name for name in vars(kind) if not name.startswith("__"))
                found |= {f"{kind.__qualname__}.{n}": _held(vars(kind)[n]) for n in names}
        return found

    def changed(self) -> dict[str, Any]:
        """What is another object than before, or holds others, by path: the values now."""
        now = self._now()
        return {
            path: held[0]
            for path, held in now.items()
            if path not in self._before or not _same(held, self._before[path])
        }


def _held(value: Any) -> list[Any]:
    """A value, and what is in it."""
    if isinstance(value, dict):
        return [value, *value, *value.values()]
    return [value, *value] if isinstance(value, (list, set, deque)) else [value]


def _same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(
        a is b or (isinstance(a, (int, float, str)) and type(a) is type(b) and a == b)
        for a, b in zip(now, before, strict=True)
    )
