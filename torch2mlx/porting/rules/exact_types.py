"""`type(layer) == nn.Conv2d`: a layer that keeps torch's layout is of a class below the kit's."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.types import layers

_SAME = (cst.Is, cst.IsNot, cst.Equal, cst.NotEqual, cst.In, cst.NotIn)


def of_types(at: Place, original: cst.Comparison, updated: cst.Comparison) -> cst.Comparison:
    """The comparison, of classes under torch's names where it is one of types with layers."""
    asked = original.comparisons
    if len(asked) != 1 or not isinstance(asked[0].operator, _SAME) or not _is_type(original.left):
        return updated
    named: Any = asked[0].comparator
    several = isinstance(named, (cst.Tuple, cst.List, cst.Set))
    held = [e.value for e in named.elements] if several else [named]
    if not any(_is_layer(at, value) for value in held):
        return updated
    given: Any = updated.left
    kind = expression(f"kit.modules.kind({code(given.args[0].value)})")
    at.change(original, "type()", "the layer's class, without what keeps torch's layout")
    return updated.with_changes(left=kind)


def _is_type(node: Any) -> bool:
    """Whether this is `type(value)`."""
    named = isinstance(node, cst.Call) and isinstance(node.func, cst.Name)
    return named and node.func.value == "type" and len(node.args) == 1


def _is_layer(at: Place, node: Any) -> bool:
    full = at.file.names.of(node)
    return full.startswith("torch.nn.") and full.rpartition(".")[2] in layers.IMAGES
