"""Models that a function answers, for the command line: file.py:function, module:function.

The function is a stranger's code. Whatever it raises is told as its own, with its line.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from torch2mlx.checkpoint.source.foreign import missing
from torch2mlx.common.optional import need
from torch2mlx.errors import TranslationError

Made = TypeVar("Made")


def is_factory(text: str) -> bool:
    """Whether a source names a function, and no file or folder."""
    _, colon, function = text.rpartition(":")
    # https://host/file, also as a Path, which makes one slash of two
    is_path = "/" in function or "\\" in function
    return not os.path.exists(text) and bool(colon) and not is_path


def file_of(text: str) -> str:
    """The file part of file.py:function; the text itself where it has none."""
    file = text.rpartition(":")[0]
    return file if file.endswith(".py") else text


def call(text: str) -> Any:
    """What the function of file.py:function or package.module:function answers.

    Raises TranslationError where there is no such function, where it takes arguments, and where
    it, or its file, fails: with the line.
    """
    need(text, "torch")
    where, colon, name = text.rpartition(":")
    if not colon:
        raise TranslationError(_unnamed(text))
    module = _module(where, text)
    made = _attribute(module, where, name)
    if not callable(made):
        raise TranslationError(
            f"{text}: is {_a(made)}, not a function; name one that answers (model, args)"
        )
    _refuse_arguments(made, text)
    return _guarded(made, text, getattr(module, "__file__", None))


def _unnamed(text: str) -> str:
    """What to say of a source without a function."""
    if text.endswith(".py") and Path(text).is_file():
        names = _functions(Path(text))
        example = f"{text}:{names[0] if names else 'function'}"
        shown = f"; it has {', '.join(names[:5])}" if names else ""
        return f"{text}: is a file; name the function in it, as in {example}{shown}"
    if Path(text).is_file():
        return f"{text}: is a file; give a folder with a config.json, or file.py:function"
    return f"{missing(text)}; give a folder, file.py:function or package.module:function"


def _functions(file: Path) -> list[str]:
    """The functions at the top of a file that can be called without arguments."""
    with suppress(SyntaxError, ValueError, OSError):
        return [
            node.name
            for node in ast.parse(file.read_bytes()).body
            if isinstance(node, ast.FunctionDef)
            and len(node.args.args) == len(node.args.defaults)
            and not node.args.posonlyargs
        ]
    return []


def _module(where: str, text: str) -> ModuleType:
    if where.endswith(".py"):
        return _of_file(Path(where), text)
    if not where:
        raise TranslationError(f"{text}: names no module before the colon")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return _guarded(lambda: importlib.import_module(where), text, None)
    except TranslationError as error:
        lost = error.__cause__
        if isinstance(lost, ModuleNotFoundError) and where.startswith(lost.name or " "):
            raise TranslationError(
                f"{text}: there is no module {lost.name!r} here or on Python's path; a file is "
                "named file.py:function"
            ) from lost
        raise


def _of_file(file: Path, text: str) -> ModuleType:
    if not file.is_file():
        raise TranslationError(f"{file}: no such file")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"{file.stem}_of_file" if file.stem in sys.modules else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickles and dataclasses look there
    loader = spec.loader
    _guarded(lambda: loader.exec_module(module), text, str(file))
    return module


def _attribute(module: ModuleType, where: str, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, v in vars(module).items() if inspect.isfunction(v)]
            close = difflib.get_close_matches(name, known, 1)
            advice = f"; it has {', '.join(known[:5])}" if known else ""
            advice = f"; did you mean {where}:{close[0]}?" if close else advice
            raise TranslationError(f"{where}: has no {name!r}{advice}")
        found = getattr(found, part)
    return found


def _refuse_arguments(made: Callable[..., Any], text: str) -> None:
    """Raises TranslationError for what cannot be called without arguments."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return
    wanted = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if wanted:
        raise TranslationError(
            f"{text}: takes {', '.join(wanted)}, and is called without arguments; name a function "
            "that answers (model, args)"
        )


def _guarded(run: Callable[[], Made], text: str, file: str | None) -> Made:
    """What `run` answers. Whatever it raises is a TranslationError that names its line."""
    try:
        return run()
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}"
        raise TranslationError(f"{place}: {type(error).__name__}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        said = (str(error).strip().splitlines() or [""])[0]
        told = f"{type(error).__name__}: {said}".removesuffix(": ")
        raise TranslationError(f"{_place(error, text, file)}: {text} raised {told}") from error


def _place(error: BaseException, text: str, file: str | None) -> str:
    """The line of the user's code that was running: the last in their file, or outside ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if file and os.path.abspath(f.filename) == os.path.abspath(file)]
    apart = [f for f in frames if "torch2mlx" not in f.filename and "importlib" not in f.filename]
    for frame in (own or apart)[-1:]:
        return f"{frame.filename}:{frame.lineno}"
    return text


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def parts(made: Any, text: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """(model, args, kwargs) of what a function answered. Raises TranslationError for another."""
    if is_torch_module(made):
        raise TranslationError(
            f"{text}: answers a model alone; let it answer (model, args), with example inputs"
        )
    if not isinstance(made, (tuple, list)) or len(made) not in (2, 3):
        raise TranslationError(
            f"{text}: answers {_a(made)}; it has to answer (model, args) or (model, args, kwargs)"
        )
    model, args = made[0], made[1]
    if not is_torch_module(model):
        raise TranslationError(
            f"{text}: answers {_a(model)} where the model belongs; it has to answer "
            "(model, args), the model a torch.nn.Module"
        )
    kwargs = made[2] if len(made) == 3 else {}
    if not isinstance(kwargs, dict):
        raise TranslationError(f"{text}: answers {_a(kwargs)} where kwargs, a dict, belong")
    if isinstance(args, dict):
        return model, (), {**args, **kwargs}
    return model, tuple(args) if isinstance(args, (tuple, list)) else (args,), dict(kwargs)


def is_torch_module(value: Any) -> bool:
    """Whether a value is an nn.Module, and no class of them."""
    import torch

    return isinstance(value, torch.nn.Module)
