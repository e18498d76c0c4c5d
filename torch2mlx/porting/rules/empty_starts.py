"""Tensors that start without items, which torch.cat passes over whatever axes the others have.

seen = torch.tensor([])
for x in xs:
    seen = torch.cat((seen, x))         seen = kit.stacking.concatenate((seen, x))
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import TYPED, Names
from torch2mlx.porting.scopes.traversal import calls

JOINING = ("torch.cat", "torch.concat", "torch.concatenate")
_OF_DATA = ("torch.tensor", "torch.as_tensor", "torch.Tensor", *(f"torch.{k}" for k in TYPED))
_OF_SIZES = ("torch.empty", "torch.zeros", "torch.ones", "torch.Tensor")


def starts_empty(module: cst.Module, names: Names) -> bool:
    """Whether a file makes a tensor of the shape (0,)."""
    return any(_is_empty(call, names.of(call.func)) for call in calls(module))


def _is_empty(call: cst.Call, full: str) -> bool:
    given: list[Any] = [a.value for a in call.args if a.keyword is None and not a.star]
    if full in _OF_DATA and (not given or (isinstance(given[0], cst.List) and not _items(given))):
        return bool(given) or full not in ("torch.tensor", "torch.as_tensor")
    sizes = _items(given) if given and isinstance(given[0], (cst.Tuple, cst.List)) else given
    return full in _OF_SIZES and len(sizes) == 1 and getattr(sizes[0], "value", "") == "0"


def _items(given: list[Any]) -> list[Any]:
    return [element.value for element in given[0].elements]


def with_empty(made: Any) -> Any:
    """A call of mx.concatenate as one that passes over arrays without items."""
    func = getattr(made, "func", None)
    if not isinstance(func, cst.Attribute) or func.attr.value != "concatenate":
        return made
    return made.with_changes(func=cst.parse_expression("kit.stacking.concatenate"))
