"""Names of local values: the source's where it has one, else by what made the value."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Collection, Sequence

from torch2mlx.export.ir.nodes import Node

#: Names of results by the last word of their op, where the source tells none.
_USUAL = {
    **{"matmul": "x", "add": "x", "mul": "x", "sub": "x", "truediv": "x", "reshape": "x"},
    **{"transpose": "x", "astype": "x", "index": "x", "flatten": "x", "where": "x"},
    **{"scaled_dot_product_attention": "output", "softmax": "weights", "concatenate": "joined"},
    **{"arange": "positions", "layer_norm": "x", "rms_norm": "x", "expand_dims": "x"},
    **{"addmm": "x", "broadcast_to": "x", "eq": "same", "ne": "other", "le": "mask", "lt": "mask"},
    **{"ge": "mask", "gt": "mask", "and_": "mask", "or_": "mask", "cos": "cos", "sin": "sin"},
    **{"sum": "total", "max": "largest", "min": "smallest", "array": "value", "split": "parts"},
}
_IMPORTED = {"mx", "nn", "kit", "math"}
#: What statements call, besides what the file imports.
_CALLED = {"bool", "enumerate", "float", "int", "len", "list", "max", "min", "range", "reversed"}
_CALLED |= {"abs", "round", "slice", "super", "tuple", "zip"}
_RESERVED = {"self", *_IMPORTED, *_CALLED}


def hides(name: str) -> bool:
    """Whether an argument of this name would hide what statements read."""
    return name in _RESERVED or (name.endswith("Error") and hasattr(builtins, name))


def usable(kind: str, taken: Collection[str] = ()) -> str:
    """A name for a class or a function of the file: an identifier that hides nothing there."""
    base = re.sub(r"\W", "_", kind).strip("_") or "Model"
    base = f"Model{base}" if base[0].isdigit() else base
    if keyword.iskeyword(base) or base in _IMPORTED or hasattr(builtins, base) or base == "load":
        base = f"{base}_"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}{count}"
    return name


class Names:
    """Names in use; a name is free again when its value has been read for the last time."""

    def __init__(self, reserved: Collection[str] = ()) -> None:
        self._taken: set[str] = set(reserved)

    def argument(self, name: str) -> str:
        """The name of an argument of the model, as it is where that hides nothing."""
        if hides(name) or name in self._taken:
            return self.take(name)
        self._taken.add(name)
        return name

    def take(self, wanted: str, spared: Collection[str] = ()) -> str:
        """A name like the one wanted that nothing alive has, and none of those to be spared."""
        base = re.sub(r"\W", "_", wanted).strip("_") or "x"
        base = f"x_{base}" if base[0].isdigit() else base
        if keyword.iskeyword(base) or hides(base):
            base += "_"
        name, i = base, 2
        while name in self._taken or name in spared:
            name, i = f"{base}_{i}", i + 1
        self._taken.add(name)
        return name

    def free(self, name: str) -> None:
        """Gives a name back."""
        self._taken.discard(name)


def wanted(node: Node) -> str:
    """A name for a node's result."""
    if node.op == "shape":
        return "BLHWD"[node.args[1]] if node.args[1] < 5 else "S"
    if node.name:
        return node.name
    if node.op in ("param", "constant", "module"):
        return str(node.args[0]).rpartition(".")[2].strip("_") or "x"
    if node.op == "layer":
        path = str(node.args[0].args[0]).split(".")
        return next((part for part in reversed(path) if not part.isdigit()), "x")
    last = node.op.rsplit(".", 1)[-1]
    return _USUAL.get(last, last if len(last) > 3 else "x")


def ends_of_statements(items: Sequence[object]) -> set[Node]:
    """Of the items of a region those nodes that end a statement of the model's source: the
    results of these get its name."""
    found: set[Node] = set()
    last: tuple[str, str] | None = None
    for item in reversed(items):
        if not isinstance(item, Node) or not item.name:
            last = None
            continue
        if (item.name, item.line) != last:
            found.add(item)
        last = (item.name, item.line)
    return found
