"""What lowerings write with: each call becomes a node, and is run on abstract arrays at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.errors import Code, Unsupported
from torch2mlx.export.ir.measured import holds, plainly
from torch2mlx.export.ir.nodes import Frame, Node, Symbol, abstract, dtype_name, learn, operands

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class Refuse(Exception):
    """A lowering's word that it cannot write an operator, by default with these arguments."""

    def __init__(self, detail: str, code: Code = Code.ARGUMENTS) -> None:
        super().__init__(detail)
        self.detail, self.code = detail, code

    def at(self, where: str = "") -> Unsupported:
        """What is told of it."""
        return Unsupported(self.code, where, self.detail)


class Unmade(Refuse):
    """That an argument is the result of an operator which was refused before."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, Code.DEPENDENT)


class Builder:
    """Collects nodes. `scope`, `name` and `line` are those of the operator being lowered."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.functions: list[Any] = []  # of the file, in the order they are defined
        self.scope: tuple[Frame, ...] = ()
        self.name = ""
        self.line = ""
        #: dims of the operator's results, and the torch dtype it should have
        self.dtype: str | None = None
        self.shape: tuple[Any, ...] | None = None
        self.training = False
        #: whether a gradient that is blocked must be 0 even where what follows has no bound
        self.selecting = False
        self._varying: dict[Node, bool] = {}
        #: lengths that vary and were written down as numbers all the same
        self.baked: set[Any] = set()
        #: the exported program's node that is being lowered
        self.source: Any = None

    def call(self, op: str, *args: Any, **kwargs: Any) -> Node:
        """A call of an MLX function (see ir.Node for the names of ops)."""
        if holds((args, kwargs)):
            args, kwargs = self._plain(args), self._plain(kwargs)
        value = abstract(op, args, kwargs)
        return self.add(Node(op, args, kwargs, value))

    def add(self, node: Node) -> Node:
        """A node as it is, placed here."""
        fields = (node.op, node.args, node.kwargs, node.value, node.dims)
        placed = Node(*fields, self.scope, node.name, self.line, node.origin)
        self.nodes.append(placed)
        return placed

    def number(self, length: int) -> int:
        """A length written down as a number: the file then checks that it has no other."""
        return int(self._plain(length))

    def _plain(self, value: Any) -> Any:
        found: set[Any] = set()
        made = plainly(value, found)
        if any(dim.by_data for dim in found):
            raise Refuse("a length that the data decides would be a number of the file")
        self.baked |= found
        return made

    def item(self, node: Node, i: int) -> Node:
        """One part of a node that gives several."""
        return self.call("item", node, i)

    def items(self, node: Node) -> tuple[Node, ...]:
        """All parts of a node that gives several."""
        return tuple(self.item(node, i) for i in range(len(node.value)))

    def index(self, x: Node, *where: Any) -> Node:
        """x[where]."""
        return self.call("index", x, where)

    def at(self, x: Node, axis: int, what: Any) -> Node:
        """x[:, ..., what] at one axis."""
        axis = axis % x.ndim
        return self.index(x, *[slice(None)] * axis, what)

    def cast(self, x: Any, dtype: str) -> Node:
        """x in a dtype; itself when it has it."""
        if not isinstance(x, Node) or not x.is_array:
            return self.array(x, dtype)
        return x if x.dtype == dtype else self.call("method.astype", x, mx_dtype(dtype))

    def array(self, x: Any, dtype: str | None = None) -> Node:
        """A number as an array."""
        if isinstance(x, Node) and x.is_array:
            return x
        return self.call("mx.array", x, *(() if dtype is None else (mx_dtype(dtype),)))

    def reshape(self, x: Node, shape: Sequence[Any]) -> Node:
        """x.reshape(shape); MLX's method crashes when called with no lengths at all."""
        if not shape:
            return self.call("mx.reshape", x, ())
        return self.call("method.reshape", x, *shape)

    def transpose(self, x: Node, axes: Sequence[int]) -> Node:
        """x.transpose(axes); itself when nothing moves."""
        axes = tuple(a % x.ndim for a in axes)
        if axes == tuple(range(x.ndim)):
            return x
        made = self.call("method.transpose", x, *axes)
        if x.dims is not None:
            learn(made, dims=tuple(x.dims[axis] for axis in axes))
        return made

    def swap(self, x: Node, a: int, b: int) -> Node:
        """x with two axes exchanged."""
        order = list(range(x.ndim))
        order[a], order[b] = order[b], order[a]
        return self.transpose(x, order)

    def dim(self, x: Node, axis: int) -> Any:
        """The length of an axis: a number, or a node where the program is dynamic."""
        dims = x.dims if x.dims is not None else x.shape
        found = dims[axis]
        if x.dims is None and self._varies(x):  # made on the way: no one said its lengths
            return self.call("shape", x, axis % x.ndim)
        return found if isinstance(found, int) else self.call("shape", x, axis % x.ndim)

    def _varies(self, x: Node) -> bool:
        """Whether a value is computed from arrays with lengths that vary."""
        if x not in self._varying:
            if x.dims is not None:
                self._varying[x] = any(isinstance(dim, str) for dim in x.dims)
            else:
                number = not x.is_array and x.op == "shape"
                self._varying[x] = number or any(self._varies(read) for read in operands(x))
        return self._varying[x]

    def dims(self, x: Node) -> tuple[Any, ...]:
        """All lengths."""
        return tuple(self.dim(x, axis) for axis in range(x.ndim))

    def size(self, x: Node, axes: Sequence[int]) -> Any:
        """The product of lengths."""
        total: Any = 1
        for axis in axes:
            length = self.dim(x, axis)
            total = length if total == 1 else self.scalar("mul", total, length)
        return total

    def scalar(self, name: str, a: Any, b: Any) -> Any:
        """Arithmetic of numbers, done now where both are known."""
        if not isinstance(a, Node) and not isinstance(b, Node):
            return abstract(f"operator.{name}", (a, b), {})
        return self.call(f"operator.{name}", a, b)


def mx_dtype(name: str) -> Symbol:
    """The symbol of a dtype."""
    return Symbol(f"mx.{'bool_' if name == 'bool' else name}")


def common_dtype(model: Any) -> Any:
    """The MLX dtype of all floating-point parameters of a torch module; None when they differ."""
    import mlx.core as mx

    floating = (p.dtype for p in model.parameters() if p.is_floating_point())
    kinds = {str(dtype).removeprefix("torch.") for dtype in floating}
    return getattr(mx, kinds.pop()) if len(kinds) == 1 else None


def is_float(x: Any) -> bool:
    """Whether an array holds floating point numbers, or a number is a float."""
    if isinstance(x, Node) and x.is_array:
        return x.dtype in FLOATS
    return isinstance(x.value if isinstance(x, Node) else x, float)


def is_integer(x: Any) -> bool:
    """Whether an array holds integers, or a number is one."""
    if isinstance(x, Node) and x.is_array:
        return x.dtype in INTEGERS
    plain = x.value if isinstance(x, Node) else x
    return isinstance(plain, int) and not isinstance(plain, bool)


__all__ = [
    "FLOATS",
    "INTEGERS",
    "Builder",
    "Refuse",
    "Unmade",
    "dtype_name",
    "is_float",
    "is_integer",
]
