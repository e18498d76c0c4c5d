"""Names from the model's own source: what the statement that made a value assigns it to."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_LINE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


class Names:
    """Reads source files once; statements by line."""

    def __init__(self) -> None:
        self._files: dict[str, Mapping[int, str]] = {}

    def of(self, node: Any) -> str:
        """The name that a graph node's statement assigns to, "" when there is no single one."""
        found = _LINE.findall(node.meta.get("stack_trace") or "")
        found = [line for line in found if line[2] == "forward" or "torch/" in line[0]]
        if not found:
            return ""
        file, line, _ = found[-1]
        if file not in self._files:
            self._files[file] = _targets("".join(linecache.getlines(file)))
        return self._files[file].get(int(line), "")


@lru_cache(maxsize=64)  # torch's own files are in most models, and take longer than a small one
def _targets(source: str) -> Mapping[int, str]:
    """Line -> the one name that the statement on it assigns."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return {}
    found: dict[int, str] = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target: Any = statement.targets[0]
        elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
            target = statement.target
        else:
            continue
        if isinstance(target, ast.Name):
            end = statement.end_lineno or statement.lineno
            found.update(dict.fromkeys(range(statement.lineno, end + 1), target.id))
    return found
