"""What the exported program says of where a node comes from and how large its result is."""

from __future__ import annotations

import operator
import os
import re
from pathlib import Path
from typing import Any

from torch2mlx.export.ir.nodes import Frame

_LINE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
#: Files without lines of a model: this package's own, and the code that torch makes of a graph.
_NO_MODEL = (f"{Path(__file__).parents[2]}{os.sep}", "<eval_with_key>")


def scope_of(node: Any) -> tuple[Frame, ...]:
    """The modules whose forward is running, outermost first."""
    stack = node.meta.get("nn_module_stack") or {}
    if node.target is operator.getitem and (not stack or _runs_a_graph(node.args[0])):
        return scope_of(node.args[0])  # what a region gives is made by the region
    frames = []
    for key, (path, kind) in stack.items():
        if path.startswith("_empty_nn_module_stack"):
            continue  # torch.export's word for a node without a module
        if "parametrizations" in path.split("."):
            continue  # what computes a weight belongs to the module that has it
        name = kind if isinstance(kind, str) else kind.__name__
        frames.append(Frame(_numbered(path, key), name.rsplit(".", 1)[-1]))
    return tuple(frames)


def _runs_a_graph(node: Any) -> bool:
    return any(n.op == "get_attr" for n in getattr(node, "all_input_nodes", ()))


def _numbered(path: str, key: str) -> str:
    """The path with the number of the call, which only the key of a later call has."""
    number = key.rpartition("@")[2]
    later = "@" in key and "@" not in path and number.isdigit()
    return f"{path}@{number}" if later else path


def where_of(node: Any, own: bool = False) -> str:
    """ "file.py:12", the innermost line of the model's source; "" when unknown. `own`: lines of
    torch's own layers are left out."""
    found = _LINE.findall(node.meta.get("stack_trace") or "")
    found = [line for line in found if not line[0].startswith(_NO_MODEL)]
    if own:
        found = [line for line in found if "/torch/" not in line[0].replace("\\", "/")]
    if not found:
        return ""
    file, line, _ = found[-1]
    return f"{file}:{line}"


def size_hint(size: Any) -> int | None:
    """A length as a number, on the example inputs; None when only the data knows it."""
    if isinstance(size, int):
        return size
    try:
        hint = size.node.hint
    except AttributeError:
        return None
    return int(hint) if hint is not None else None


def hints(value: Any) -> tuple[tuple[int, ...] | None, tuple[Any, ...] | None]:
    """Shape on the example inputs, and the shape with symbols (as text)."""
    sizes = tuple(size_hint(size) for size in value.shape)
    dims = tuple(s if isinstance(s, int) else _dim(s) for s in value.shape)
    known = tuple(size for size in sizes if size is not None)
    return (known if len(known) == len(sizes) else None), dims


def expression_of(number: Any) -> Any:
    """torch's expression of a number that is made of free lengths; None of anything else."""
    expression = getattr(getattr(number, "node", None), "expr", None)
    return None if expression is None or expression.is_number else expression


class Dim(str):
    """A symbolic length as text; `expression` is torch's own, `by_data` whether only the data
    knows it."""

    expression: Any = None
    by_data = False


def _dim(size: Any) -> Any:
    """A symbolic length: the number when it turned out to be one, its expression as text."""
    expression = size.node.expr
    if expression.is_number:
        return int(expression)
    made = Dim(expression)
    made.expression, made.by_data = expression, size_hint(size) is None
    return made
