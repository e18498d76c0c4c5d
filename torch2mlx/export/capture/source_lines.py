"""Lines of a model's own source: where something was called, and where something was raised."""

from __future__ import annotations

import linecache
import sys
import traceback
from types import FrameType

#: Packages whose frames are no part of a model.
_LIBRARIES = ("torch", "torch2mlx", "sympy", "contextlib.py", "copy.py")
#: Whose frames call the model.
_RUNS = "torch2mlx.export.verify.running"
#: Beginnings of names that stand for no file; a notebook's cells have others.
_MADE = ("<frozen", "<string>", "<eval_with_key>", "<attrs generated")


def calling_line() -> str:
    """ "model.py:12" of the innermost running line that is a model's; "" where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and of_library(frame.f_code.co_filename):
        outside = frame.f_globals.get("__name__") == _RUNS  # further out is who called translate
        frame = None if outside else frame.f_back
    return "" if frame is None else f"{_name(frame.f_code.co_filename)}:{frame.f_lineno}"


def raising_line(error: BaseException) -> str:
    """ " at model.py:12 (`its text`)" of the innermost line that is a model's; "" without one."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not of_library(f.filename)]
    if not own:
        return ""
    line = (own[-1].line or linecache.getline(own[-1].filename, own[-1].lineno or 0)).strip()
    return f" at {own[-1].filename}:{own[-1].lineno}" + (f" (`{line}`)" if line else "")


def of_library(path: str) -> bool:
    """Whether a file is no model's."""
    parts = path.replace("\\", "/").split("/")
    return any(name in parts for name in _LIBRARIES) or path.startswith(_MADE)


def _name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
