"""Conditions on lengths: those that torch.export asks, and those that it never asks because torch's
own operators raise an error, or do something else, at the lengths where they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.ir.provenance import where_of


@dataclass(frozen=True)
class Asked:
    """Who asked: the file and function of torch ("" where it was the model), and the model's
    line."""

    file: str = ""
    function: str = ""
    line: str = ""
    python: bool = False  # whether a statement asked, and not torch's core

    def among(self, table: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether the asking function is in a table of files and functions, () for all of one."""
        named = table.get(self.file)
        return named is not None and (not named or self.function in named)


@dataclass(frozen=True)
class Condition:
    """What holds of the lengths, as an expression of torch's symbols."""

    expression: Any
    asked: Asked
    #: of what torch takes for granted of lengths of 2 or more: sizes at which it is not so
    small: tuple[tuple[tuple[Any, int], ...], ...] = ()
    #: the table that is looked up at places which these lengths count
    table: str = ""


def needs(module: Any) -> Iterator[Condition]:
    """What the operators of an exported program need of lengths that vary."""
    found: dict[Any, str] = {}
    for part in module.modules():
        for node in getattr(getattr(part, "graph", None), "nodes", ()):
            schema = getattr(node.target, "_schema", None)
            rule = _NEEDS.get(str(getattr(schema, "name", "")).removeprefix("aten::"))
            for condition in rule(node, schema) if rule else ():
                found.setdefault(condition, where_of(node, own=True).rsplit("/", 1)[-1])
    for condition, line in found.items():
        if not (condition.is_Boolean and condition in (True, False)):
            yield Condition(condition, Asked("", "", line))


def given(node: Any, schema: Any) -> dict[str, Any]:
    """Arguments of an operator by name, defaults filled in."""
    names = [a.name for a in schema.arguments]
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    return {**defaults, **dict(zip(names, node.args, strict=False)), **node.kwargs}


def _value(argument: Any) -> Any:
    return argument.meta.get("val") if hasattr(argument, "meta") else argument


def size_of(size: Any) -> Any:
    """A length as torch's expression."""
    import sympy

    size = _value(size)
    return size.node.expr if hasattr(size, "node") else sympy.Integer(int(size))


def _symbolic(size: Any) -> bool:
    return hasattr(size, "node") and not size.node.expr.is_number and _backed(size)


def _backed(size: Any) -> bool:
    """Whether lengths of the arguments tell a size, and no data."""
    return getattr(size.node, "hint", None) is not None


def shape_of(argument: Any) -> Any:
    return getattr(_value(argument), "shape", ())


def _squeeze(node: Any, schema: Any) -> Iterator[Any]:
    import sympy

    said = given(node, schema)
    shape, dim = shape_of(said["self"]), said.get("dim")
    axes = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    for axis in axes:
        if shape and _symbolic(shape[axis]):
            one = shape[axis].node.hint == 1
            yield (sympy.Eq if one else sympy.Ne)(size_of(shape[axis]), 1)


def _at_least(name: str) -> Callable[[Any, Any], Iterator[Any]]:
    """An axis of at least so many items as an argument says."""

    def rule(node: Any, schema: Any) -> Iterator[Any]:
        import sympy

        said = given(node, schema)
        shape, least = shape_of(said["self"]), _value(said[name])
        axis = said.get("dim", said.get("dimension", -1))
        if shape and _symbolic(shape[axis]) and not hasattr(least, "shape"):
            yield sympy.Ge(size_of(shape[axis]), size_of(least))

    return rule


def _pad(node: Any, schema: Any) -> Iterator[Any]:
    import sympy

    for amount in map(_value, given(node, schema)["pad"]):
        if _symbolic(amount):
            expression = size_of(amount)
            yield sympy.Ge(expression, 0) if amount.node.hint >= 0 else sympy.Lt(expression, 0)


def _chunks(node: Any, schema: Any) -> Iterator[Any]:
    """As many parts as in the example."""
    import sympy
    from torch.utils._sympy.functions import FloorDiv

    said = given(node, schema)
    shape, chunks, made = shape_of(said["self"]), said["chunks"], node.meta.get("val")
    if isinstance(chunks, int) and shape and _symbolic(shape[said["dim"]]):
        length = size_of(shape[said["dim"]])
        part = FloorDiv(length + chunks - 1, chunks)
        yield sympy.Gt(length, (len(made) - 1) * part)
        if len(made) != chunks:
            yield sympy.Le(length, len(made) * part)


def _split(node: Any, schema: Any) -> Iterator[Any]:
    """As many parts of one length as in the example, the last one perhaps shorter."""
    import sympy

    said = given(node, schema)
    size, parts = said.get("split_size"), node.meta.get("val")
    shape = shape_of(said["self"])
    if isinstance(_value(size), (tuple, list, type(None))) or not isinstance(parts, (tuple, list)):
        return
    length, most = size_of(shape[said["dim"]]), len(parts) * size_of(size)
    if length.is_number or not all(_backed(n) for n in shape if hasattr(n, "node")):
        return
    if not (length - most + size_of(size)).is_positive:
        yield sympy.Gt(length, most - size_of(size))
    if not (most - length).is_nonnegative:
        yield sympy.Le(length, most)


_NEEDS: Mapping[str, Callable[[Any, Any], Iterator[Any]]] = {
    "squeeze": _squeeze,
    "squeeze_": _squeeze,
    "topk": _at_least("k"),
    "kthvalue": _at_least("k"),
    "unfold": _at_least("size"),
    "pad": _pad,
    "constant_pad_nd": _pad,
    "chunk": _chunks,
    "split": _split,
    "unsafe_split": _split,
}
