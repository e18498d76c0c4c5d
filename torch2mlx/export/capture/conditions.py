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


def _given(node: Any, schema: Any) -> dict[str, Any]:
    """Arguments of an operator by name, defaults filled in."""
    names = [a.name for a in schema.arguments]
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    return {**defaults, **dict(zip(names, node.args, strict=False)), **node.kwargs}


def _value(argument: Any) -> Any:
    return argument.meta.get("val") if hasattr(argument, "meta") else argument


def _size(size: Any) -> Any:
    """A length as torch's expression."""
    import sympy

    size = _value(size)
    return size.node.expr if hasattr(size, "node") else sympy.Integer(int(size))


def _symbolic(size: Any) -> bool:
    return hasattr(size, "node") and not size.node.expr.is_number and _backed(size)


def _backed(size: Any) -> bool:
    """Whether lengths of the arguments tell a size, and no data."""
    return getattr(size.node, "hint", None) is not None


def _shape(argument: Any) -> Any:
    return getattr(_value(argument), "shape", ())


def _squeeze(node: Any, schema: Any) -> Iterator[Any]:
    import sympy

    given = _given(node, schema)
    shape, dim = _shape(given["self"]), given.get("dim")
    axes = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    for axis in axes:
        if shape and _symbolic(shape[axis]):
            one = shape[axis].node.hint == 1
            yield (sympy.Eq if one else sympy.Ne)(_size(shape[axis]), 1)


def _at_least(name: str) -> Callable[[Any, Any], Iterator[Any]]:
    """An axis of at least so many items as an argument says."""

    def rule(node: Any, schema: Any) -> Iterator[Any]:
        import sympy

        given = _given(node, schema)
        shape, least = _shape(given["self"]), _value(given[name])
        axis = given.get("dim", given.get("dimension", -1))
        if shape and _symbolic(shape[axis]) and not hasattr(least, "shape"):
            yield sympy.Ge(_size(shape[axis]), _size(least))

    return rule


def _pad(node: Any, schema: Any) -> Iterator[Any]:
    import sympy

    for amount in map(_value, _given(node, schema)["pad"]):
        if _symbolic(amount):
            expression = _size(amount)
            yield sympy.Ge(expression, 0) if amount.node.hint >= 0 else sympy.Lt(expression, 0)


def _chunks(node: Any, schema: Any) -> Iterator[Any]:
    """As many parts as in the example."""
    import sympy
    from torch.utils._sympy.functions import FloorDiv

    given = _given(node, schema)
    shape, chunks, made = _shape(given["self"]), given["chunks"], node.meta.get("val")
    if isinstance(chunks, int) and shape and _symbolic(shape[given["dim"]]):
        length = _size(shape[given["dim"]])
        part = FloorDiv(length + chunks - 1, chunks)
        yield sympy.Gt(length, (len(made) - 1) * part)
        if len(made) != chunks:
            yield sympy.Le(length, len(made) * part)


def _split(node: Any, schema: Any) -> Iterator[Any]:
    """As many parts of one length as in the example, the last one perhaps shorter."""
    import sympy

    given = _given(node, schema)
    size, parts = given.get("split_size"), node.meta.get("val")
    shape = _shape(given["self"])
    if isinstance(_value(size), (tuple, list, type(None))) or not isinstance(parts, (tuple, list)):
        return
    length, most = _size(shape[given["dim"]]), len(parts) * _size(size)
    if length.is_number or not all(_backed(n) for n in shape if hasattr(n, "node")):
        return
    if not (length - most + _size(size)).is_positive:
        yield sympy.Gt(length, most - _size(size))
    if not (most - length).is_nonnegative:
        yield sympy.Le(length, most)


def _rows(node: Any, schema: Any) -> Iterator[Any]:
    """Numbers that count up to a length, looked up in a table."""
    import sympy

    given = _given(node, schema)
    table, places = given.get("weight"), given.get("indices")
    if table is None:
        table, places = given["self"], given["indices"]
        places = places[0] if isinstance(places, (tuple, list)) and len(places) == 1 else None
    end, shape = _end(places), _shape(table)
    if end is not None and shape and not end.is_number and not _symbolic(shape[0]):
        yield sympy.Le(end, _size(shape[0]))


_PASSED = ("unsqueeze", "expand", "view", "reshape", "to", "_to_copy", "contiguous", "clone")
_PASSED += ("slice", "repeat", "flatten", "squeeze", "alias", "expand_as", "lift_fresh_copy")


def _end(places: Any) -> Any:
    """One more than the largest of places that are counted; None of others."""
    schema = getattr(getattr(places, "target", None), "_schema", None)
    if schema is None or not places.args:
        return None
    name = schema.name.removeprefix("aten::")
    if name == "arange":
        given = _given(places, schema)
        end = _value(given["end"])
        plain = given.get("step", 1) == 1 and (isinstance(end, int) or hasattr(end, "node"))
        return _size(end) if plain else None
    if name in _PASSED:
        return _end(places.args[0])
    if name == "add" and isinstance(places.args[1], int):
        inner = _end(places.args[0])
        return None if inner is None else inner + places.args[1]
    return None


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
    "embedding": _rows,
    "index": _rows,
}
