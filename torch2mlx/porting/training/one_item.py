"""Losses of one item that are no scalars: torch takes their gradient, MLX that of scalars alone.

loss = torch.zeros(1)                       def loss_fn():
for x in xs:                                    loss = mx.zeros((1,))
    loss += criterion(model(x), y)    ->        ...
loss.backward()                                 return loss.reshape(())
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import of_kinds, walk

_OF_SIZES = ("torch.zeros", "torch.ones", "torch.empty")
_OF_DATA = ("torch.Tensor", "torch.FloatTensor", "torch.tensor")


def is_row(node: Any, name: str, names: Names, rows: bool) -> bool:
    """Whether a loss may have the shape (1,); `rows`: parameters of this shape are trained."""
    return starts_as_row(node, name, names) or (rows and not is_reduced(node, name, names))


def starts_as_row(node: Any, name: str, names: Names) -> bool:
    """Whether a function gives a name a tensor of the shape (1,) somewhere."""
    for part in walk(node) if name else ():
        if isinstance(part, cst.Assign) and isinstance(part.value, cst.Call):
            given = any(dotted(target.target) == name for target in part.targets)
            if given and _is_row(part.value, names):
                return True
    return False


def has_rows(module: cst.Module, names: Names, kind: str) -> bool:
    """Whether some module of one parameter in a file, of the class `kind`, has a row of one."""
    made = (n for n in of_kinds(module, cst.Call) if dotted(n.func) == kind and n.args)
    values = (n.args[0].value for n in made)
    return any(isinstance(v, cst.Call) and _is_row(v, names) for v in values)


def is_reduced(node: Any, name: str, names: Names) -> bool:
    """Whether what a function gives a name last is the mean or the sum of something."""
    made = [
        n.value
        for n in walk(node)
        if isinstance(n, cst.Assign) and any(dotted(t.target) == name for t in n.targets)
    ]
    value = made[-1] if made else None
    if not isinstance(value, cst.Call):
        return False
    method = value.func.attr.value if isinstance(value.func, cst.Attribute) else ""
    return method in ("mean", "sum") or names.of(value.func).startswith("torch.nn.functional.")


def _is_row(call: cst.Call, names: Names) -> bool:
    full, plain = names.of(call.func), [a.value for a in call.args if a.keyword is None]
    if len(plain) != 1:
        return False
    first = plain[0]
    if isinstance(first, cst.List) and full in _OF_DATA:
        return len(first.elements) == 1 and not isinstance(first.elements[0].value, cst.List)
    sizes = full in (*_OF_SIZES, "torch.Tensor", "torch.FloatTensor")
    return sizes and isinstance(first, cst.Integer) and first.value == "1"
