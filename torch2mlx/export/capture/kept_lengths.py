"""`int()` and `float()` of a length, which stay lengths while a model is traced.

Python's own `int` can answer nothing but a plain number, so that `int(x.shape[1] * 0.5)` fixes the
length to that of the example. Where a forward asks for such a number, it is traced once more with
other classes under the names `int` and `float` in its module: of a length they answer one, and to
all else they are Python's own.
"""

from __future__ import annotations

import ast
import builtins
import functools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torch2mlx.export.capture.code_positions import called, file_tree, path_to, statement_of
from torch2mlx.export.capture.everywhere import is_users, replaced_everywhere
from torch2mlx.export.capture.patched import replaced

_NAMES = ("int", "float")
#: Functions of math that take a length as it is.
_ROOTS = ("sqrt", "isqrt", "pow")


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Names of a module, and the file of the function that asked."""

    names: dict[str, Any]
    file: str


class NumbersAsked(Exception):  # no error: what was traced has a freer form
    """A forward made plain numbers of free lengths, in these places."""

    def __init__(self, places: tuple[Place, ...]) -> None:
        super().__init__()
        self.places = places


@dataclass
class Numbers:
    """Where plain numbers were made of lengths, while one model was traced."""

    _places: dict[int, Place] = field(default_factory=dict)

    def note(self, value: Any, frame: Any) -> None:
        """`frame` makes a number of a value."""
        names = frame.f_globals
        if id(names) in self._places or not of_users(frame) or not _free(value):
            return
        if _makes_number(path_to(frame)):
            self._places[id(names)] = Place(names, frame.f_code.co_filename)

    def tell(self, known: tuple[Place, ...] | None) -> None:
        """Raises NumbersAsked where there are such places, and it is open where they are."""
        if known is None and self._places:
            raise NumbersAsked(tuple(self._places.values()))


def of_users(frame: Any) -> bool:
    """Whether a frame runs code that is neither torch's nor Python's own."""
    name = str(frame.f_globals.get("__name__", "")) if frame is not None else "torch"
    return is_users(name)


def _free(value: Any) -> bool:
    return bool(getattr(getattr(value.node, "expr", None), "free_symbols", ()))


def _makes_number(path: tuple[ast.AST, ...]) -> bool:
    """Whether what is evaluated is a call of `int`, `float` or a root; or, where it is no
    call, stands in a statement with one, as what is unpacked from `map(int, ...)`."""
    asking = path[-1] if path else None
    if asking is not None and not isinstance(asking, ast.Call):
        asking = path[statement_of(path)]
    calls = (node for node in ast.walk(asking) if isinstance(node, ast.Call)) if asking else ()
    named = [called(call) for call in calls]
    if not isinstance(asking, ast.stmt):  # a call makes what it takes from `map` itself
        named = named[:1] + [name for name in named if name == "map"]
    return any(name in (*_NAMES, *_ROOTS, "map") for name in named)


@contextmanager
def numbers_kept(places: tuple[Place, ...]) -> Iterator[Numbers]:
    """While open, numbers that are made of lengths in these places stay lengths, and it is noted
    who makes plain ones elsewhere; `divmod` of lengths is known."""
    import torch

    numbers = Numbers()
    with _exchanged(places), ExitStack() as stack:
        for owner in (torch.SymInt, torch.SymFloat):
            for name in ("__int__", "__float__", "__index__"):
                if (original := getattr(owner, name, None)) is not None:
                    noting = _noting(original, numbers)
                    stack.enter_context(replaced(owner, name, noting))
            divided = {
                "__divmod__": lambda a, b: (a // b, a % b),
                "__rdivmod__": lambda a, b: (b // a, b % a),
            }
            for name, value in divided.items():
                stack.enter_context(replaced(owner, name, value))
        yield numbers


def _noting(original: Any, numbers: Numbers) -> Any:
    @functools.wraps(original)
    def noting(value: Any) -> Any:
        numbers.note(value, sys._getframe(1))
        return original(value)

    return noting


class _Exchanged(type):
    """The class of classes that stand for `int` or `float`, their `own`."""

    own: Any
    of_lengths: Callable[[Any], Any]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and is_length(args[0]):
            return cls.of_lengths(args[0])
        return cls.own(*args, **kwargs)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.own) or (is_length(value) and isinstance(value, _sym(cls.own)))

    def __subclasscheck__(cls, kind: type) -> bool:
        return kind is cls or issubclass(kind, cls.own)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.own, name)

    @property
    def dtype(cls) -> Any:
        """What numpy looks for in a class that is none of its own."""
        return np.dtype(cls.own)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.own

    def __hash__(cls) -> int:
        return hash(cls.own)


def calling(frame: Any) -> Any:
    """The frame that makes a number: the one outside of these classes."""
    return frame.f_back if frame.f_code is _Exchanged.__call__.__code__ else frame


def is_length(value: Any) -> bool:
    """Whether a value is a length of torch's, or a number made of some."""
    import torch

    return isinstance(value, (torch.SymInt, torch.SymFloat))


def _sym(own: type) -> Any:
    import torch

    return torch.SymInt if own is int else torch.SymFloat


def _class(name: str) -> Any:
    import torch

    own = getattr(builtins, name)
    turn = torch.sym_int if own is int else torch.sym_float
    return _Exchanged(name, (), {"own": own, "of_lengths": staticmethod(turn)})


@contextmanager
def _exchanged(places: tuple[Place, ...]) -> Iterator[None]:
    """While open, the names stand for such classes there, and roots of a length are lengths."""
    if not places:
        yield
        return
    classes = {name: _class(name) for name in _NAMES}
    changed = [(place.names, name) for place in places for name in _exchangeable(place)]
    for names, name in changed:
        names[name] = classes[name]
    try:
        with replaced_everywhere([(math, name, _root(name)) for name in _ROOTS]):
            yield
    finally:
        for names, name in changed:
            names.pop(name, None)


def _root(name: str) -> Any:
    import torch

    original = getattr(math, name)
    own = {
        "sqrt": torch.sym_sqrt,
        "isqrt": lambda value: torch.sym_int(torch.sym_sqrt(value)),
        "pow": lambda base, exponent: _float(base) ** _float(exponent),
    }[name]

    @functools.wraps(original)
    def root(*values: Any) -> Any:
        return own(*values) if any(map(is_length, values)) else original(*values)

    return root


def _float(value: Any) -> Any:
    import torch

    return torch.sym_float(value) if is_length(value) else float(value)


def _exchangeable(place: Place) -> tuple[str, ...]:
    """The names that mean Python's own in a file, and for which another class may stand there."""
    tree = file_tree(place.file)
    if tree is None:
        return ()
    return tuple(n for n in _NAMES if n not in place.names and n in _plain_uses(tree))


@functools.lru_cache(maxsize=256)
def _plain_uses(tree: ast.Module) -> frozenset[str]:
    """The names of classes that a file uses, but neither compares by identity nor inherits from.
    numpy knows the dtype of what stands for them; torch, which does not, raises an error."""
    other: set[str] = set()
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Compare) and any(
            isinstance(o, (ast.Is, ast.IsNot)) for o in node.ops
        ):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.ClassDef):
            parts = node.bases
        other.update(n.id for n in parts if isinstance(n, ast.Name))
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in _NAMES}
    return frozenset(used - other)
