"""What Python itself asks of a length while a model is traced, where torch's own class would answer
for itself: a length is an `int` to those who ask for its class, and has the text of its number.

A text may become a key or a branch, so that it fixes the length; one that is only told to people,
by an error or a log, does not.
"""

from __future__ import annotations

import ast
import functools
import linecache
import math
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch2mlx.export.capture.code_positions import called, file_tree, path_to, statement_of
from torch2mlx.export.capture.kept_lengths import NONE_OF_USERS, of_users
from torch2mlx.export.capture.patched import replaced

#: Functions that tell people something, or demand it and tell why, by parts of their names.
_TELLING = re.compile(
    r"assert|check|log|warn|print|debug|info|error|exception|require|ensure|verify|validate|expect"
    r"|raise|fail|record_function",
    re.IGNORECASE,
)
#: Where libraries are.
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib"))
#: Modules of Python that look at a class for who called them.
_LOOKING = ("abc", "_py_abc", "functools")
#: Functions that numpy calls as methods of objects, beside those that Python has words for.
_OF_NUMPY = ("log", "log2", "log10", "exp", "sin", "cos", "tanh")


@contextmanager
def plain_answers() -> Iterator[None]:
    """While open, user's code sees numbers of Python where lengths are: their classes and texts,
    and numpy's functions of them."""
    import torch

    with ExitStack() as stack:
        for owner, plain in ((torch.SymInt, int), (torch.SymFloat, float), (torch.SymBool, bool)):
            exchanged = {"__getattribute__": _attribute(plain)}
            if plain is not bool:
                told, form = owner.__repr__, owner.__format__
                exchanged |= {"__repr__": _text(told, plain), "__format__": _format(form, plain)}
                exchanged |= {
                    "sqrt": torch.sym_sqrt,
                    "rint": _rounded,
                    **{n: _number(n) for n in _OF_NUMPY},
                }
            for name, value in exchanged.items():
                stack.enter_context(replaced(owner, name, value))
        stack.enter_context(_types_of_numbers())
        yield


@contextmanager
def _types_of_numbers() -> Iterator[None]:
    """While open, `type(n)` of a length is Python's class in user's files that compare it."""
    import torch

    plain = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}

    def type_of(value: Any) -> type:
        return plain.get(type(value), type(value))

    names = [vars(module) for module in tuple(sys.modules.values()) if _compares(module)]
    for one in names:
        one["type"] = type_of
    try:
        yield
    finally:
        for one in names:
            one.pop("type", None)


def _compares(module: Any) -> bool:
    """Whether a module that is nobody's library compares `type(n)` with a class of numbers."""
    known = getattr(module, "__dict__", None) or {}
    file, root = known.get("__file__"), str(known.get("__name__")).partition(".")[0]
    if not isinstance(file, str) or not file.endswith(".py") or "type" in known:
        return False
    installed = file.startswith(_INSTALLED) or root in NONE_OF_USERS
    return not installed and _compares_types(file)


@functools.lru_cache(maxsize=4096)
def _compares_types(file: str) -> bool:
    """Whether a file does so, and uses the name `type` for nothing but calls with one argument."""
    if not any("type(" in line for line in linecache.getlines(file)):
        return False
    tree = file_tree(file)
    nodes = () if tree is None else tuple(ast.walk(tree))
    asked = {
        id(n.func) for n in nodes if isinstance(n, ast.Call) and len(n.args) == 1 and not n.keywords
    }
    if any(isinstance(n, ast.Name) and n.id == "type" and id(n) not in asked for n in nodes):
        return False
    compared = (n for n in nodes if isinstance(n, ast.Compare))
    return any({"type", "int"} <= _read(n) or {"type", "float"} <= _read(n) for n in compared)


def _read(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _attribute(plain: type) -> Any:
    own = object.__getattribute__

    def attribute(value: Any, name: str) -> Any:
        if name == "__class__" and of_users(_asking(sys._getframe(1))):
            return plain
        return own(value, name)

    return attribute


def _asking(frame: Any) -> Any:
    """The frame that asks for a class: abstract ones, and functions of several classes, look for
    others."""
    while frame is not None and frame.f_globals.get("__name__") in _LOOKING:
        frame = frame.f_back
    return frame


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
    import torch

    return torch.sym_float(round(value))


def _counts(frame: Any) -> bool:
    """Whether a text that a frame makes may be more than told."""
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
