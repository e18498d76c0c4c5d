"""Running somebody's script under a recorder: its arguments, its lines, the end of it."""

from __future__ import annotations

import os
import random
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

#: Names of functions of torch and MLX scripts that draw first weights.
_DRAWS_WEIGHTS = ("init", "reset_parameters", "apply_to_modules")


def run(script: Path, args: list[str], finish: Callable[[str], None]) -> None:
    """Runs a script as `python script args` would; `finish` gets how it failed, or ""."""
    sys.argv = [str(script), *args]
    sys.path.insert(0, str(script.parent))
    failure = ""
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as error:
        failure = "" if error.code in (None, 0) else f"the script ended with exit code {error.code}"
    except BaseException as error:
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}"
    finish(failure)


def leave() -> None:
    """Ends the process at once: what the script would do from here on is not asked for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def seed_all(seed: int) -> None:
    """The seeds of what both sides have: numpy's and Python's own."""
    random.seed(seed)
    np.random.seed(seed)
    made = np.random.default_rng

    def default_rng(given: Any = None) -> np.random.Generator:
        return made(seed if given is None else given)

    library: Any = np.random
    library.default_rng = default_rng


def frames() -> Iterator[FrameType]:
    """The frames of the stack, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def line_of(folder: Path) -> str:
    """`file:line` of the innermost line of the stack that stands in a folder, or ""."""
    inside = f"{folder}{os.sep}"
    for frame in frames():
        name = frame.f_code.co_filename
        if name.startswith(inside) and "site-packages" not in name:
            return f"{Path(name).name}:{frame.f_lineno}"
    return ""


def makes_weights(module: type) -> bool:
    """Whether the stack is within what draws first weights: a module's constructor, an init."""
    for frame in frames():
        name = frame.f_code.co_name
        if name == "__init__" and isinstance(frame.f_locals.get("self"), module):
            return True
        if name != "__init__" and any(part in name for part in _DRAWS_WEIGHTS):
            return True
        if Path(frame.f_code.co_filename).name == "init.py":
            return True
    return False


def held_by(folder: Path) -> Iterator[tuple[str, Any]]:
    """What the frames of scripts in a folder hold, by name, and what their `self` holds."""
    inside = f"{folder}{os.sep}"
    for frame in frames():
        if frame.f_code.co_filename.startswith(inside):
            for held in (frame.f_locals, frame.f_globals):
                yield from list(held.items())
                yield from list(getattr(held.get("self"), "__dict__", {}).items())


def name_of(value: Any, default: str, folder: Path) -> str:
    """The name under which the frames of scripts in a folder hold an object."""
    found = (name for name, item in held_by(folder) if item is value and name != "self")
    return next(found, default)


def kept_by(folder: Path, kind: type) -> list[Any]:
    """The objects of a class that the frames of scripts in a folder hold, and what objects of the
    scripts' own classes hold there."""
    held = [item for _, item in held_by(folder)]
    inside = f"{folder}{os.sep}"
    inner = (f for f in frames() if f.f_code.co_filename.startswith(inside))
    scripts = {frame.f_globals.get("__name__") for frame in inner}
    own = [item for item in held if type(item).__module__ in scripts and hasattr(item, "__dict__")]
    held += [value for item in own for value in vars(item).values()]
    return [item for item in held if isinstance(item, kind)]
