"""What Python itself asks of a length while a model is traced, where torch's own class would answer
for itself: a length is an `int` to those who ask for its class, and has the text of its number.

A text may become a key or a branch, so that it fixes the length; one that is only told to people,
by an error or a log, does not.
"""

from __future__ import annotations

import ast
import functools
import math
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from torch2mlx.export.capture.code_positions import called, path_to, statement_of
from torch2mlx.export.capture.everywhere import replaced_everywhere
from torch2mlx.export.capture.kept_lengths import is_length, of_users
from torch2mlx.export.capture.patched import replaced
from torch2mlx.export.capture.plain_names import plain_names

#: Functions that tell people something, or demand it and tell why, by parts of their names.
_TELLING = re.compile(
    r"assert|check|log|warn|print|debug|info|error|exception|require|ensure|verify|validate|expect"
    r"|raise|fail|record_function",
    re.IGNORECASE,
)
#: Modules that ask for who called them.
_LOOKING = (sys.stdlib_module_names - {"__main__"}) | {"numpy"}
#: Functions that numpy calls as methods of objects, beside those that Python has words for.
_OF_NUMPY = ("log", "log2", "log10", "exp", "sin", "cos", "tanh")
#: What any number has beside its value: it is its own real part, and its own copy.
_PARTS = {
    "real": property(lambda value: value),
    "imag": property(lambda value: value * 0),
    "conjugate": lambda value: value,
    "__copy__": lambda value: value,
    "__deepcopy__": lambda value, known: value,
}


@contextmanager
def plain_answers(strict: bool) -> Iterator[None]:
    """While open, user's code sees numbers of Python where lengths are: their classes and texts,
    numpy's functions of them, and what `round` makes of them. The strict tracer reads names of
    Python itself, and knows that lengths are numbers."""
    import torch

    with ExitStack() as stack:
        for owner, plain in ((torch.SymInt, int), (torch.SymFloat, float), (torch.SymBool, bool)):
            exchanged = {"__getattribute__": _attribute(plain)}
            if plain is not bool:
                told, form = owner.__repr__, owner.__format__
                exchanged |= {"__repr__": _text(told, plain), "__format__": _format(form, plain)}
                exchanged |= {
                    "sqrt": lambda value: _numpys(torch.sym_sqrt(value)),
                    "rint": _rounded,
                    **{n: _number(n) for n in _OF_NUMPY},
                    **_PARTS,
                }
            for name, value in exchanged.items():
                stack.enter_context(replaced(owner, name, value))
        cut = [_cut(name) for name in ("ceil", "floor", "trunc", "fix")]
        if not strict:
            stack.enter_context(plain_names())
            stack.enter_context(replaced_everywhere(cut))
        whole = {"__round__": _rounded_to, "numerator": _PARTS["real"], "denominator": 1}
        for name, value in whole.items():
            stack.enter_context(replaced(torch.SymInt, name, value))
        yield


def _attribute(plain: type) -> Any:
    own = object.__getattribute__

    def attribute(value: Any, name: str) -> Any:
        if name == "__class__" and of_users(_asking(sys._getframe(1))):
            return plain
        return own(value, name)

    return attribute


def _asking(frame: Any) -> Any:
    """The frame that asks for a class or a text: Python's own modules and numpy do for others."""
    while frame is not None and _root(frame) in _LOOKING:
        frame = frame.f_back
    return frame


def _root(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _text(original: Any, plain: Any) -> Any:
    def text(value: Any) -> str:
        return repr(plain(value)) if _counts(sys._getframe(1)) else str(original(value))

    return text


def _format(original: Any, plain: Any) -> Any:
    def formatted(value: Any, form: str) -> str:
        if form or _counts(sys._getframe(1)):
            return format(plain(value), form)
        return str(original(value, form))

    return formatted


def _number(name: str) -> Any:
    return lambda value: getattr(math, name)(float(value))


def _rounded(value: Any) -> Any:
    return _numpys(round(value))


def _cut(name: str) -> tuple[Any, str, Any]:
    """numpy's function of this name, which answers a float where math's answers an integer."""
    original, cut = getattr(np, name), getattr(math, "trunc" if name == "fix" else name)

    @functools.wraps(original)
    def cutting(value: Any, *more: Any, **options: Any) -> Any:
        if is_length(value) and not more and not options:
            return _numpys(cut(value))
        return original(value, *more, **options)

    return np, name, cutting


def _numpys(value: Any) -> Any:
    """A number as numpy's functions answer it: a float that can be cast."""
    import torch

    return _number_of_numpy()(torch.sym_float(value).node)


@functools.cache
def _number_of_numpy() -> Any:
    import torch

    class Number(torch.SymFloat):
        def astype(self, kind: Any) -> Any:
            kind = np.dtype(kind)
            if kind.kind not in "iu" and kind != np.float64:
                raise AttributeError(f"no length is of {kind}")
            return self if kind == np.float64 else torch.sym_int(self)

    return Number


def _rounded_to(value: Any, digits: int | None = None) -> Any:
    """`round(n, -1)`, which torch leaves as it is: the nearest multiple, of two the even one."""
    if digits is None or digits >= 0:
        return value
    unit: int = 10**-digits
    return round(value / unit) * unit


def _counts(frame: Any) -> bool:
    """Whether a text that a frame makes may be more than told."""
    frame = _asking(frame)
    return of_users(frame) and not _told(path_to(frame))


def _told(path: tuple[ast.AST, ...]) -> bool:
    """Whether an expression is part of what is told alone, or is a name's that is."""
    at = statement_of(path)
    if at < 0:
        return False
    statement = path[at]
    calls = path[at:] if len(path) > at + 1 else tuple(ast.walk(statement))
    if isinstance(statement, (ast.Raise, ast.Assert)) or any(map(_tells, calls)):
        return True
    named = statement.targets if isinstance(statement, ast.Assign) else ()
    names = {n.id for n in named if isinstance(n, ast.Name)}
    around = [node for node in path[:at] if isinstance(node, (ast.FunctionDef, ast.Lambda))]
    return bool(names) and len(names) == len(named) and bool(around) and _only(names, around[-1])


def _tells(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and bool(_TELLING.search(called(node)))


def _only(names: set[str], function: ast.AST) -> bool:
    """Whether all that a function reads of these names is told."""
    telling = (n for n in ast.walk(function) if isinstance(n, (ast.Raise, ast.Assert)) or _tells(n))
    told = {id(part) for node in telling for part in ast.walk(node)}
    return all(
        id(node) in told
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
    )
