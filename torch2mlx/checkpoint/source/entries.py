"""The entries of a state dict, flat: dicts and lists of tensors within it get dotted keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch2mlx import _core
from torch2mlx.checkpoint.source.files import unsupported
from torch2mlx.checkpoint.source.holdings import Holdings, describe, is_container, is_optimizer
from torch2mlx.checkpoint.source.nested import is_key
from torch2mlx.checkpoint.source.tensors import array_types, is_array
from torch2mlx.errors import ConversionError, KeyCollisionError, UnsupportedTensorError

#: Longest key that is made by joining those of nested containers.
MAX_JOINED = 1024
#: Characters that the other values of a state dict may have, in JSON and all together.
MAX_VALUES = 16 << 20


class TooLarge:
    """Stands for a value that is not kept because it would be written out far too large."""


@dataclass
class Entries:
    """Tensors by key, whatever else there is by key, and what was called otherwise."""

    tensors: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _refuse_foreign(key: str, value: _core.Foreign, origin: str) -> None:
    if value.is_tensor:
        raise unsupported(origin, key, value)
    if value.holds_data and not _extra(key):
        raise UnsupportedTensorError(
            f"{origin}: entry {key!r}: {describe(value)} with data in it (byte {value.offset}), "
            "which is never opened; save plain tensors in its place"
        )


def _items(value: Any, key: str, origin: str) -> Iterator[tuple[str, Any]]:
    """A container's entries under the keys they get."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, child in pairs:
        if not is_key(name):
            raise ConversionError(
                f"{origin}: key {name!r}{f' in {key!r}' if key else ''} is no text, so this is no "
                "state dict"
            )
        joined = f"{key}.{name}" if key else str(name)
        if key and len(joined) > MAX_JOINED:
            raise ConversionError(
                f"{origin}: the keys within {key[:80]!r} are longer than {MAX_JOINED} characters"
            )
        yield joined, child


class _Flattening:
    """One walk over a state dict: containers that hold tensors are opened, each once."""

    def __init__(self, origin: str, listing: bool) -> None:
        self.origin, self.made, self._listing = origin, Entries(), listing
        self._holdings = Holdings()
        self._opened: dict[int, str] = {}
        self._left = MAX_VALUES

    def run(self, state: Mapping[Any, Any]) -> Entries:
        if _is_flat(state):
            self.made.tensors.update(state)
            return self.made
        self._opened[id(state)] = "the state dict"
        if any(not isinstance(key, str) for key in state):
            self.made.notes.append("keys that are numbers are written as text")
        waiting = [_items(state, "", self.origin)]
        while waiting:
            for key, value in waiting[-1]:
                if self._opens(key, value):
                    if len(waiting) == 1:
                        self._note(key, value)
                    waiting.append(_items(value, key, self.origin))
                    break
                self._take(key, value)
            else:
                waiting.pop()
        return self.made

    def _opens(self, key: str, value: Any) -> bool:
        if not is_container(value) or key.endswith("_extra_state") or is_optimizer(value):
            return False
        if not self._holdings.holds(value):
            return False
        other = self._opened.setdefault(id(value), f"entry {key!r}")
        if other != f"entry {key!r}":
            raise ConversionError(
                f"{self.origin}: entry {key!r} and {other} are one {type(value).__name__} of "
                "tensors; save it once"
            )
        return True

    def _note(self, key: str, value: Any) -> None:
        first = next(iter(value)) if isinstance(value, Mapping) else 0
        self.made.notes.append(
            f"{key!r} is a {type(value).__name__} of tensors, which are called {key}.{first}, ..."
        )

    def _take(self, key: str, value: Any) -> None:
        made = self.made
        if key in made.tensors or key in made.values:
            raise KeyCollisionError(f"{self.origin}: two entries would both be called {key!r}")
        if isinstance(value, _core.Foreign):
            described = value.is_tensor and value.shape is not None
            if not (self._listing and described):
                _refuse_foreign(key, value, self.origin)
        else:
            described = is_array(value)
        if described:
            made.tensors[key] = value
        elif not is_container(value) and self._holdings.holds(value) and not _extra(key):
            raise UnsupportedTensorError(
                f"entry {key!r}: a {type(value).__name__} with tensors in it, as quantized layers "
                "keep their weights; dequantize the model first"
            )
        else:
            self._left -= self._holdings.size(value, MAX_VALUES)
            made.values[key] = value if self._left >= 0 else TooLarge()


def _is_flat(state: Mapping[Any, Any]) -> bool:
    """Whether keys are text and values tensors, all of them, as in most state dicts."""
    known = array_types()
    plain = set(map(type, state)) == {str}
    return plain and all(issubclass(kind, known) for kind in set(map(type, state.values())))


def _extra(key: str) -> bool:
    return key.endswith("_extra_state")


def flatten_entries(state: Mapping[Any, Any], origin: str, listing: bool = False) -> Entries:
    """Every tensor of a state dict under a text key, and its other values.

    `listing`: tensors that cannot be read are kept too, where their shape is known. Tensors in
    dicts, lists and tuples are called by the path to them. Raises ConversionError for keys that
    are neither text nor numbers, KeyCollisionError for two entries of one name, and
    UnsupportedTensorError for what holds tensors and is not opened.
    """
    return _Flattening(origin, listing).run(state)
