"""A file that could not be ported at all, as one thing that is left: where it is, and why."""

from __future__ import annotations

import ast
from typing import Any

from torch2mlx.errors import Code, MissingLibraryError, PortError, Unsupported

#: What is wrong with more than the file that was at hand.
_NOT_OF_THE_FILE = (MissingLibraryError, MemoryError, OSError)


def left_whole(error: Exception) -> Unsupported:
    """What is left where a file raised an error. Raises it where it is not of the file alone."""
    if isinstance(error, _NOT_OF_THE_FILE):
        raise error
    if not isinstance(error, PortError):
        first = (str(error).strip().splitlines() or [""])[0]
        why = f"a fault of torch2mlx itself: {type(error).__name__}: {first}"
        return Unsupported(Code.ERROR, "", f"the file is left as it is: {why}")
    return Unsupported(Code.ERROR, "", f"the file is left as it is: {error.why}", error.line)


def no_python(text: str, path: str, problem: Any) -> PortError:
    """Where and why a text is no Python, as Python says it; as the parser does, where it agrees."""
    try:
        ast.parse(text)
        line, column = problem.raw_line, problem.raw_column + 1
        why = problem.message.splitlines()[0].partition(": expected one of")[0]
    except SyntaxError as error:
        line, column, why = error.lineno, error.offset, error.msg
    return PortError(f"{path}:{line}:{column}: {why}", line or 0, why)
