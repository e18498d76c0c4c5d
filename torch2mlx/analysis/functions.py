"""Functions as syntax trees, and what the names in them mean."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch2mlx.catalog.op_mapping import lookup_op

#: Packages whose functions are known by name, and not read.
_CLOSED = {"torch", "numpy", "einops", "mlx", "torch2mlx", "jaxtyping", "beartype"}


@dataclass(frozen=True, eq=False)
class Function:
    """A function's syntax tree, where it stands, and the names around it; one object for each."""

    tree: ast.FunctionDef
    file: str
    start: int
    scope: dict[str, Any]

    def line(self, node: Any) -> int:
        """The line of a node in the file."""
        return int(self.start + node.lineno - 1)

    @property
    def names(self) -> Names:
        """What its names mean."""
        return Names(self.scope)


class Names:
    """What names mean where a function stands: `F` -> torch.nn.functional."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope

    def dotted(self, node: ast.expr) -> str | None:
        """The full name of an expression like F.pad or torch.linalg.norm, if it is one."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        base = self.scope.get(node.id)
        name = getattr(base, "__name__", None) if inspect.ismodule(base) else _full_name(base)
        return ".".join([name, *reversed(parts)]) if name else None


def _full_name(value: Any) -> str | None:
    """The full name of a function or class that was imported by name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if isinstance(value, type) and isinstance(module, str):
        return f"{module}.{name}"
    if not isinstance(name, str) or not callable(value):
        return None
    if module == "torch._C._nn":
        return f"torch.nn.functional.{name}"
    if isinstance(module, str) and module.startswith("torch.nn."):
        return f"{module}.{name}"
    if module not in (None, "torch", "torch._C", "torch.functional") or "torch" not in sys.modules:
        return None
    group, _, rest = name.partition("_")  # torch.linalg.inv calls itself linalg_inv
    if group in ("linalg", "fft", "special") and lookup_op(f"torch.{group}.{rest}"):
        return f"torch.{group}.{rest}"
    known = getattr(sys.modules["torch"], name, None) is value or lookup_op(f"torch.{name}")
    return f"torch.{name}" if known else None


@lru_cache(maxsize=8192)
def read(function: Any) -> Function | None:
    """The syntax tree of a function; None where its source cannot be read."""
    try:
        lines, start = inspect.getsourcelines(function)
        file = inspect.getsourcefile(function) or "?"
        tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    closure = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
    return Function(tree, file, max(start, 1), {**function.__globals__, **closure})


def is_read(function: Any) -> bool:
    """Whether a function is the user's, or a library's that is read as if it were."""
    if not inspect.isfunction(function):
        return False
    top = str(function.__module__).partition(".")[0]
    return top not in _CLOSED and (top == "__main__" or top not in sys.stdlib_module_names)


def own_methods(cls: type) -> Iterator[Any]:
    """forward, and the methods of the class itself that forward calls by self.name()."""
    seen, waiting = set(), ["forward"]
    while waiting:
        name = waiting.pop()
        function = inspect.unwrap(getattr(cls, name)) if hasattr(cls, name) else None
        if name in seen or not inspect.isfunction(function):
            continue
        seen.add(name)
        if function.__module__.startswith("torch."):
            continue
        yield function
        waiting += [n for n in function.__code__.co_names if n in vars(cls) and n not in seen]
