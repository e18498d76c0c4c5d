"""A Python file as a source: which function or class of it makes the model. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from torch2mlx.errors import TranslationError


def named(text: str) -> str:
    """`file.py:function` for a file with one function, or else one module, that takes nothing.

    Any other text as it is. Raises TranslationError for a file that has none, or several.
    """
    path = Path(text)
    if path.suffix != ".py" or not path.is_file():
        return text
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise TranslationError(f"{text}:{line or 1}: cannot be parsed: {error}") from error
    functions, modules = list(_functions(body)), list(_modules(body))
    found = functions if len(functions) == 1 else modules if not functions else []
    if len(found) == 1:
        return f"{text}:{found[0]}"
    names = [*functions, *modules]
    if not names:
        raise TranslationError(
            f"{text}: has no function, and no nn.Module, that is made without arguments; write a "
            f"function that answers the model, and name it: {text}:function"
        )
    raise TranslationError(
        f"{text}: has {', '.join(names[:5])}: name the one that makes the model, as in "
        f"{text}:{names[0]}"
    )


def _functions(body: list[ast.stmt]) -> Iterator[str]:
    """Public functions that can be called without arguments."""
    for node in body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith(("_", "test_")):
            continue
        if node.name != "main" and _takes_nothing(node.args, 0):
            yield node.name


def _modules(body: list[ast.stmt]) -> Iterator[str]:
    """Classes of nn.Module that can be made without arguments, subclasses in the file too."""
    known = {"Module"}
    for node in body:
        bases = [ast.unparse(b).rpartition(".")[2] for b in getattr(node, "bases", ())]
        if isinstance(node, ast.ClassDef) and known & set(bases):
            known.add(node.name)
            made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            if not node.name.startswith("_") and all(_takes_nothing(n.args, 1) for n in made):
                yield node.name


def _takes_nothing(arguments: ast.arguments, own: int) -> bool:
    """Whether all arguments but the first `own` have defaults."""
    plain = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return plain <= own and None not in arguments.kw_defaults
