"""The intermediate form: a list of calls of MLX functions, each knowing where it came from.

A node's `op` is what the emitted source will call: "mx.exp", "nn.silu", "kit.pooling.max_pool",
"operator.add" (an infix), "method.reshape" (of the first argument), or one of the few words of
`SPECIAL`. Arguments are nodes, numbers, strings, None, slices, `Symbol`s and tuples of them.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.ir.arguments import leaves_of
from torch2mlx.export.ir.measured import shape_of

#: Words for `op` that are no function: an argument of the model; a stored tensor by its key; an
#: array that is no weight; a module of the tree; one part of a result; an index; an axis of a
#: shape; a call of a module, and of a stored array that is a layer of experts; one of several
#: caches, and a place in it, read and written; how much a cache holds, and attention to that.
SPECIAL = (
    *("input", "param", "constant", "module", "item", "index", "shape", "layer", "chosen"),
    *("entry", "slot", "store", "held", "attend"),
)
#: Words for what gives nothing: the new value of a buffer; a demand on values, with its error.
STATEMENTS = ("update", "demand")


@dataclass(frozen=True)
class Symbol:
    """A name to print as it is, `mx.float32`."""

    text: str


@dataclass(frozen=True)
class Frame:
    """One call of a module: its path (with `@n` for the call after the first), and its class."""

    path: str
    kind: str


@dataclass(frozen=True, eq=False)
class Node:
    """One call. `value` is what it gives on abstract arrays: lazy, with a true shape and dtype.

    `dims` is the shape with symbols where the program is dynamic; `scope` the modules being called,
    outermost first; `name` what the source called the result, "" when unknown; `line` where;
    `origin` the exported program's node whose result this is.
    """

    op: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    value: Any = None
    dims: tuple[Any, ...] | None = None
    scope: tuple[Frame, ...] = ()
    name: str = ""
    line: str = ""
    origin: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape on the example inputs."""
        return shape_of(self.value.shape, self.dims)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.value.shape)

    @property
    def dtype(self) -> str:
        """MLX's name of the dtype, "float32"; "" of what is no array."""
        return dtype_name(self.value)

    @property
    def is_array(self) -> bool:
        """Whether the result is an array."""
        return hasattr(self.value, "shape")


def is_call(value: Any, op: str) -> bool:
    """Whether something is a node, of an operation."""
    return isinstance(value, Node) and value.op == op


def learn(node: Node, **known: Any) -> None:
    """Tells a node its dims, origin or name: known only after it was made, and never changed."""
    for field_name, value in known.items():
        object.__setattr__(node, field_name, value)


def changed(node: Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Node:
    """The node with other arguments of the same value."""
    more = (node.value, node.dims, node.scope, node.name, node.line, node.origin)
    return Node(node.op, args, kwargs, *more)


@dataclass(frozen=True)
class Input:
    """An argument of the model: the path into its structure ("mask", or "batch", "ids")."""

    path: tuple[Any, ...]
    node: Node | None
    value: Any = None
    channels_last: bool = False  # where torch has it with channels first


@dataclass(frozen=True)
class Program:
    """A whole model: nodes in an order that can be run, arguments, and the structure of results.

    `last_outputs`: places of the arrays among the results that have channels last, where torch's
    have them first. `baked`: lengths that vary in torch and are numbers here.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Input, ...]
    outputs: Any
    functions: tuple[Any, ...] = ()
    last_outputs: tuple[int, ...] = ()
    baked: frozenset[Any] = frozenset()


def dtype_name(value: Any) -> str:
    """ "float32" of an array or a Dtype of MLX."""
    dtype = getattr(value, "dtype", None)
    return "" if dtype is None else str(dtype).rsplit(".", 1)[-1]


def last_order(ndim: int) -> tuple[int, ...]:
    """Axes of a transpose from channels first to channels last."""
    return (0, *range(2, ndim), 1)


def first_order(ndim: int) -> tuple[int, ...]:
    """Axes of a transpose from channels last to channels first."""
    return (0, ndim - 1, *range(1, ndim - 1))


def leaves(value: Any) -> Iterator[Node]:
    """Nodes in an argument, in order."""
    return leaves_of(Node, value)


def operands(node: Node) -> Iterator[Node]:
    """Nodes that a node reads, in order, with repetitions."""
    yield from leaves(node.args)
    yield from leaves(tuple(node.kwargs.values()))


def replace(value: Any, change: Callable[[Node], Any]) -> Any:
    """An argument with its nodes changed."""
    if isinstance(value, Node):
        return change(value)
    if isinstance(value, (tuple, list)):
        return tuple(replace(item, change) for item in value)
    if isinstance(value, slice):
        return slice(*(replace(v, change) for v in (value.start, value.stop, value.step)))
    if isinstance(value, Mapping):
        return {key: replace(item, change) for key, item in value.items()}
    return value


def function_of(op: str) -> Callable[..., Any]:
    """What an op calls. Raises KeyError for words of SPECIAL."""
    group, _, name = op.partition(".")
    if group == "method":
        return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)
    if group == "attribute":
        return lambda x: getattr(x, name)
    if group == "builtin":
        if name == "choose":
            return lambda condition, one, other: one if condition else other
        known = (int, float, abs, max, min, round)
        builtin: Any = {each.__name__: each for each in known}
        function: Callable[..., Any] = builtin[name]
        return function
    roots = {"mx": "mlx.core", "nn": "mlx.nn", "kit": "torch2mlx.kit", "operator": "operator"}
    found: Any = importlib.import_module({**roots, "math": "math"}[group])
    for part in name.split("."):
        if group == "kit" and not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    function = found
    return function


def plain(value: Any, of: Callable[[Node], Any]) -> Any:
    """An argument with values in place of nodes."""
    if isinstance(value, Symbol):
        return False if value.text == "self.training" else function_of(value.text)
    if isinstance(value, Node):
        return of(value)
    if isinstance(value, tuple):
        items = tuple(plain(item, of) for item in value)
        return list(items) if any(hasattr(i, "shape") for i in items) else items
    if isinstance(value, slice):
        return slice(*(plain(v, of) for v in (value.start, value.stop, value.step)))
    if isinstance(value, Mapping):
        return {key: plain(item, of) for key, item in value.items()}
    return value


def _abstract(node: Node) -> Any:
    return node.value


def abstract(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a call gives on the abstract values of its arguments; nothing is computed."""
    if op == "shape":
        return args[0].value.shape[args[1]]
    if op == "item":
        return args[0].value[args[1]]
    if op == "index":
        where = args[1]
        places = tuple(plain(w, _abstract) for w in where)
        return operator.getitem(args[0].value, places)
    given = tuple(plain(a, _abstract) for a in args)
    return function_of(op)(*given, **{k: plain(v, _abstract) for k, v in kwargs.items()})
