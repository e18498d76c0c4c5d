"""Libraries that are used where they are there, and asked for by name where they are not."""

from __future__ import annotations

import importlib.util
import sys

from torch2mlx.errors import MissingLibraryError

#: Libraries that an extra of this package brings; others are installed by their own names.
_EXTRAS = {
    "torch": "torch",
    "mlx": "mlx",
    "mlx_lm": "lm",
    "libcst": "port",
    "nbformat": "port",
    "rich": "cli",
    "shtab": "cli",
    "mcp": "mcp",
    "jinja2": "pages",
}
_HIDDEN = object()


def installed(name: str) -> bool:
    """Whether a library could be imported; asking does not import it."""
    inner = {"mlx": "mlx.core"}.get(name, name)
    if sys.modules.get(name, _HIDDEN) is None or sys.modules.get(inner, _HIDDEN) is None:
        return False
    if inner in sys.modules:
        return True
    try:
        # `mlx` is a namespace, which mlx-data has too, and which outlives an uninstall
        return importlib.util.find_spec(inner) is not None
    except ImportError:
        return False


def command(*names: str) -> str:
    """What to type to get libraries: one line for all."""
    extras = ",".join(dict.fromkeys(_EXTRAS[name] for name in names if name in _EXTRAS))
    others = [name for name in names if name not in _EXTRAS]
    return " ".join(["pip install", *([f"'torch2mlx[{extras}]'"] if extras else []), *others])


def need(what: str, *names: str) -> None:
    """Raises MissingLibraryError unless `what` can have these libraries."""
    lacking = [name for name in names if not installed(name)]
    if lacking:
        typed = command(*lacking)
        raise MissingLibraryError(f"{what} needs {' and '.join(lacking)}: {typed}", typed)
