"""Demands on values that torch's strict tracer leaves out of its program: it keeps those that are
tensors, and drops those that are made of numbers that nothing else reads."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch2mlx.export.capture.code_positions import called, file_tree, source_of
from torch2mlx.export.capture.demands import CHECKS

#: What makes a truth or a number of a tensor's values.
_READING: tuple[str, ...] = (
    "any",
    "all",
    "item",
    "max",
    "min",
    "argmax",
    "argmin",
    "sum",
    "amax",
    "amin",
)
_READING += ("equal", "allclose")
_NUMBERS = ("int", "float", "bool")


def notes_of_dropped(model: Any, program: Any) -> tuple[str, ...]:
    """What there is to say of demands on values that a program has not; nothing without any."""
    traces = [str(n.meta.get("stack_trace")) for n in program.graph.nodes if "assert" in n.name]
    kept = {trace.rstrip().rsplit("File ", 1)[-1].split(", in ")[0] for trace in traces}
    found = dict.fromkeys(_demands(model, kept))
    if not found:
        return ()
    return (f"torch's strict tracer drops checks of values, the file has not: {'; '.join(found)}",)


def _demands(model: Any, kept: set[str]) -> Iterator[str]:
    for code in _codes(model):
        tree = file_tree(code.co_filename)
        functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)) if tree else ()
        for function in functions:
            start = min([function.lineno, *(d.lineno for d in function.decorator_list)])
            if start == code.co_firstlineno and function.name == code.co_name:
                for line, test in _tests(function):
                    if _reads(test) and f'"{code.co_filename}", line {line}' not in kept:
                        yield f"{Path(code.co_filename).name}:{line}: {source_of(test)}"


def _codes(model: Any) -> Iterator[types.CodeType]:
    """The code of the methods of a model's own classes."""
    kinds = dict.fromkeys(cls for part in model.modules() for cls in type(part).__mro__)
    for kind in kinds:
        if kind.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        for held in vars(kind).values():
            function = inspect.unwrap(getattr(held, "__func__", held)) if callable(held) else None
            if isinstance(function, types.FunctionType) and function.__name__ != "__init__":
                yield function.__code__


def _tests(function: ast.FunctionDef) -> Iterator[tuple[int, ast.AST]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) or (isinstance(node, ast.If) and _ends(node)):
            yield node.lineno, node.test
        elif isinstance(node, ast.Call) and called(node) in CHECKS and node.args:
            yield node.lineno, node.args[0]


def _ends(branch: ast.If) -> bool:
    """Whether one side of a branch is an error."""
    return any(body and isinstance(body[-1], ast.Raise) for body in (branch.body, branch.orelse))


def _reads(test: ast.AST) -> bool:
    """Whether a test reads values, as far as its text tells."""
    for node in ast.walk(test):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute) and called(node) in _READING
        if method or (called(node) in _NUMBERS and not _of_shape(node)):
            return True
    return False


def _of_shape(call: ast.Call) -> bool:
    text = ast.unparse(call)
    return any(word in text for word in (".shape", ".size(", "len(", ".dim(", ".numel("))
