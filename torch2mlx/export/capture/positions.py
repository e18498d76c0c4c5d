"""Tables that are looked up at places which a program counts itself: a learned table of positions,
a cache of rotations. torch raises an error past a table's end, where MLX reads whatever lies there.

How far the places reach is computed from the graph: every value of integers that is counted, moved
and clamped has bounds, which are expressions of lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch2mlx.export.capture.conditions import Asked, Condition, given, shape_of, size_of
from torch2mlx.export.ir.provenance import where_of

#: The least and the largest of some integers; None where they are not known.
Bounds = tuple[Any, Any] | None

#: Operators whose values are among those of the first argument.
_MOVED: tuple[str, ...] = (
    "unsqueeze",
    "expand",
    "view",
    "reshape",
    "_unsafe_view",
    "to",
    "_to_copy",
    "contiguous",
)
_MOVED += ("clone", "slice", "select", "repeat", "flatten", "squeeze", "alias", "expand_as")
_MOVED += ("view_as", "lift_fresh_copy", "detach", "permute", "transpose", "index", "gather")
_MOVED += ("index_select", "amax", "amin", "flip", "roll", "repeat_interleave", "type_as")
_MOVED += (
    "unflatten",
    "movedim",
    "tile",
    "broadcast_to",
    "long",
    "int",
    "narrow",
    "t",
    "numpy_T",
    "mT",
)
_TRUTHS = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not")


def tables(program: Any) -> Iterator[Condition]:
    """For each table of one length at whose end lookups might pass: how long arguments may be."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    found: dict[Any, Condition] = {}
    for part in program.graph_module.modules():
        graph = getattr(part, "graph", None)
        counted = Counted(names)
        for node in getattr(graph, "nodes", ()):
            for condition in counted.lookups(node):
                found.setdefault(condition.expression, condition)
    yield from found.values()


class Counted:
    """The bounds of the integers in one graph; `names` are those of its tensors, by argument."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._known: dict[Any, Bounds] = {}

    def lookups(self, node: Any) -> Iterator[Condition]:
        """What the lookups of one operator ask of lengths."""
        import sympy

        for table, axis, places in _lookups(node):
            shape, bounds = shape_of(table), self.bounds(places)
            if (
                bounds is None
                or bounds[1] == _endless()
                or not shape
                or hasattr(shape[axis], "node")
            ):
                continue
            constant, counted = sympy.sympify(bounds[1] + 1).as_coeff_Add()
            most = int(shape[axis]) - constant
            least = counted.args if isinstance(counted, sympy.Min) else (counted,)
            held = sympy.Le(counted, most)
            within = any(sympy.Le(part, most) is sympy.true for part in least)
            if not within and held is not sympy.false:
                line = where_of(node, own=True).rsplit("/", 1)[-1]
                name = self._names.get(_moved_from(table).name, "") or f"the table of {line}"
                yield Condition(held, Asked("", "", line), table=name)

    def bounds(self, node: Any) -> Bounds:
        """The bounds of a value."""
        if node not in self._known:
            self._known[node] = None  # a value that is computed from itself has none
            self._known[node] = self._of(node)
        return self._known[node]

    def _of(self, node: Any) -> Bounds:
        value = node.meta.get("val") if hasattr(node, "meta") else node
        if isinstance(value, int) or hasattr(value, "node"):
            counted = isinstance(value, int) or value.node.hint is not None
            return (size_of(node), size_of(node)) if counted else None
        if _truths(value):
            return 0, 1
        schema = getattr(getattr(node, "target", None), "_schema", None)
        if schema is None:
            return None
        name = schema.name.removeprefix("aten::").removesuffix("_")
        if name in _TRUTHS:
            return 0, 1
        rule = _RULES.get(name)
        if rule is None:
            return self.bounds(node.args[0]) if name in _MOVED and node.args else None
        return rule(self, given(node, schema))


def _truths(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) == "torch.bool"


def _lookups(node: Any) -> Iterator[tuple[Any, int, Any]]:
    """(table, axis, places) of an operator."""
    schema = getattr(getattr(node, "target", None), "_schema", None)
    name = "" if schema is None else schema.name.removeprefix("aten::")
    if name not in ("embedding", "index", "index_select", "gather"):
        return
    said = given(node, schema)
    if name == "embedding":
        yield said["weight"], 0, said["indices"]
    elif name != "index":
        yield said["self"], said["dim"], said["index"]
    else:
        for axis, places in enumerate(said["indices"]):
            if places is not None and not _truths(places.meta.get("val")):
                yield said["self"], axis, places


def _moved_from(node: Any) -> Any:
    """What a table is a view of."""
    while node.op == "call_function" and node.args and hasattr(node.args[0], "op"):
        schema = getattr(node.target, "_schema", None)
        if schema is None or schema.name.removeprefix("aten::") not in _MOVED:
            break
        node = node.args[0]
    return node


def _endless() -> Any:
    import sympy

    return sympy.oo


def _least(*values: Any) -> Any:
    import sympy

    return sympy.Min(*values)


def _most(*values: Any) -> Any:
    import sympy

    return sympy.Max(*values)


def _not_negative(value: Any) -> bool:
    import sympy

    return bool(sympy.sympify(value).is_nonnegative)


def _arange(_: Counted, said: Mapping[str, Any]) -> Bounds:
    sizes = [said.get("start", 0), said["end"], said.get("step", 1)]
    if not all(isinstance(size, int) or hasattr(size, "meta") for size in sizes):
        return None
    if sizes[2] != 1:
        return None
    return size_of(sizes[0]), size_of(sizes[1]) - 1


def _filled(counted: Counted, said: Mapping[str, Any]) -> Bounds:
    return counted.bounds(said["fill_value"])


def _added(sign: int) -> Callable[[Counted, Mapping[str, Any]], Bounds]:
    def rule(counted: Counted, said: Mapping[str, Any]) -> Bounds:
        one, other = counted.bounds(said["self"]), counted.bounds(said["other"])
        if one is None or other is None or said.get("alpha", 1) != 1:
            return None
        low, high = other if sign > 0 else (-other[1], -other[0])
        return one[0] + low, one[1] + high

    return rule


def _times(counted: Counted, said: Mapping[str, Any]) -> Bounds:
    one, other = counted.bounds(said["self"]), counted.bounds(said["other"])
    if one is None or other is None or not (_not_negative(one[0]) and _not_negative(other[0])):
        return None
    return one[0] * other[0], one[1] * other[1]


def _summed(counted: Counted, said: Mapping[str, Any]) -> Bounds:
    """Sums along an axis, of as many terms as it is long."""
    one, shape, dim = counted.bounds(said["self"]), shape_of(said["self"]), said.get("dim")
    axes = [dim] if isinstance(dim, int) else dim
    if one is None or not axes or len(axes) != 1 or not shape or not _not_negative(one[0]):
        return None
    return 0, one[1] * size_of(shape[axes[0]])


def _clamped(counted: Counted, said: Mapping[str, Any]) -> Bounds:
    one = counted.bounds(said["self"])
    low, high = (counted.bounds(said.get(name)) for name in ("min", "max"))
    if one is None:
        return None if low is None else (low[0], _endless() if high is None else high[1])
    least, most = one
    if low is not None:
        least, most = _most(least, low[0]), _most(most, low[1])
    if high is not None:
        least, most = _least(least, high[0]), _least(most, high[1])
    return least, most


def _extreme(choose: Callable[..., Any]) -> Callable[[Counted, Mapping[str, Any]], Bounds]:
    def rule(counted: Counted, said: Mapping[str, Any]) -> Bounds:
        one, other = counted.bounds(said["self"]), counted.bounds(said.get("other"))
        if one is None or other is None:
            return None
        return choose(one[0], other[0]), choose(one[1], other[1])

    return rule


def _either(*names: str) -> Callable[[Counted, Mapping[str, Any]], Bounds]:
    def rule(counted: Counted, said: Mapping[str, Any]) -> Bounds:
        parts = [counted.bounds(said[name]) for name in names]
        if any(part is None for part in parts):
            return None
        lows, highs = zip(*filter(None, parts), strict=True)
        return _least(*lows), _most(*highs)

    return rule


def _remainder(_: Counted, said: Mapping[str, Any]) -> Bounds:
    other = said["other"]
    return (0, other - 1) if isinstance(other, int) and other > 0 else None


_ONES = dict.fromkeys(("ones", "ones_like", "new_ones"), lambda *_: (1, 1))
_ZEROS = dict.fromkeys(("zeros", "zeros_like", "new_zeros"), lambda *_: (0, 0))
_RULES: Mapping[str, Callable[[Counted, Mapping[str, Any]], Bounds]] = {
    **_ONES,
    **_ZEROS,
    **dict.fromkeys(("full", "full_like", "new_full"), _filled),
    "arange": _arange,
    "add": _added(1),
    "sub": _added(-1),
    "mul": _times,
    "cumsum": _summed,
    "sum": _summed,
    "clamp": _clamped,
    "clamp_min": _clamped,
    "clamp_max": _clamped,
    "minimum": _extreme(_least),
    "maximum": _extreme(_most),
    "where": _either("self", "other"),
    "masked_fill": _either("self", "value"),
    "remainder": _remainder,
}
