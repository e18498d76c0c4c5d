"""The types that annotations say."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types.kinds import UNKNOWN, Type
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.torch_calls import ANNOTATED


def annotated(known: Types, annotation: cst.Annotation | None) -> Type:
    return UNKNOWN if annotation is None else _of_annotation(known, annotation.annotation)


def _of_annotation(known: Types, node: Any) -> Type:
    """The type that an annotation says: a class of the file, of torch, or of Python."""
    if isinstance(node, cst.SimpleString):  # a forward reference
        return _class_type(known, str(node.evaluated_value))
    if isinstance(node, cst.Subscript):
        return _of_generic(known, node)
    name = known.full(node) or dotted(node)
    own = _class_type(known, name)
    return own if own.kind != "unknown" else ANNOTATED.get(name, UNKNOWN)


def _class_type(known: Types, name: str) -> Type:
    if not known.is_class(name):
        return UNKNOWN
    return Type("module" if known.is_module_class(name) else "object", name=name)


def _of_generic(known: Types, node: cst.Subscript) -> Type:
    """Dict[str, Tensor], Tuple[Tensor, Tensor], List[Tensor], Optional[Tensor]."""
    name = (known.names.of(node.value) or dotted(node.value)).rpartition(".")[2].lower()
    held = [e.slice.value for e in node.slice if isinstance(e.slice, cst.Index)]
    items = tuple(_of_annotation(known, item) for item in held)
    if name == "optional" and items:
        return items[0]
    if name in ("dict", "mapping") and len(items) == 2:
        return Type("dict", items)
    if name == "tuple" and not any(isinstance(item, cst.Ellipsis) for item in held):
        return Type("tuple", items)
    if name in ("list", "sequence", "iterable") and len(items) == 1:
        return Type("list", items if items[0].kind != "unknown" else ())
    return ANNOTATED.get(name, UNKNOWN)
