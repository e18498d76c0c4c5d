"""What a forward changes: attributes of its modules and of their classes, buffers, and what its
code reaches outside of them."""

from __future__ import annotations

from collections import deque
from typing import Any

from torch2mlx.export.verify.outside import OF_MODULES, Outside


class Attributes:
    """What hangs on a model and its code as it is now, to see what changes."""

    def __init__(self, model: Any) -> None:
        self._modules = dict(model.named_modules())
        self._outside = Outside(model)
        self._before, self._moved = self._now(), self._versions()
        self._taken = self._outside.taken()

    def _now(self) -> dict[Any, list[Any]]:
        found = {
            (f"{path}.{name}".lstrip("."), id(module)): _held(value)
            for path, module in self._modules.items()
            for name, value in vars(module).items()
            if name not in OF_MODULES
        }
        for path, module in self._modules.items():
            for held in (module._buffers, module._parameters, module._modules):
                for name, value in held.items():
                    found[f"{path}.{name}".lstrip("."), id(module)] = [value]
        return found | {place: _held(value) for place, value in self._outside.state().items()}

    def _versions(self) -> dict[Any, Any]:
        """How often tensors that stay were written to, and how far iterators are."""
        import torch

        with torch._C.DisableTorchFunction():  # a question that reads no weight from its file
            found = self._outside.moved()
            for path, module in self._modules.items():
                for name, value in (*module._buffers.items(), *module._parameters.items()):
                    if value is not None and not value.is_inference():
                        found[f"{path}.{name}".lstrip("."), id(module)] = value._version
        return found

    def changed(self) -> dict[str, Any]:
        """What is another object than before, or holds others, by path: the values now. Of what is
        gone, and of numbers in memory that were written to, there is None, of an iterator a
        `Taken`."""
        now, moved = self._now(), self._versions()
        others = {
            place[0]: held[0]
            for place, held in now.items()
            if place not in self._before or not _same(held, self._before[place])
        }
        known = self._moved
        taken = self._taken
        written = {p[0]: taken.get(p) for p, how in moved.items() if p in known and known[p] != how}
        gone = {place[0]: None for place in self._before if place not in now}
        return gone | written | others


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
