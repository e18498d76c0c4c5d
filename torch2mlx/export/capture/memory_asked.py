"""What a forward asks of how tensors lie in memory: whether one is contiguous, its strides, whether
it is a view of another.

MLX's arrays have no strides, so that the program has one answer to each such question: that for
inputs that lie as the example's do, at lengths of 2 or more. Where a length of 1 would turn the
answer, that length is a condition of the program; the line that asks is noted.
"""

from __future__ import annotations

import ast
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.capture.code_positions import path_to
from torch2mlx.export.capture.conditions import Asked
from torch2mlx.export.capture.guards import Turn, Watch
from torch2mlx.export.capture.kept_lengths import of_users
from torch2mlx.export.capture.patched import read_through
from torch2mlx.export.capture.tracing import node_of

#: Methods and attributes of tensors that tell it.
_NAMES = (
    *("is_contiguous", "stride", "storage_offset", "dim_order", "is_set_to"),
    *("_base", "_is_view", "untyped_storage", "storage", "_typed_storage"),
)
#: So many free lengths are tried as 1 together.
_MOST = 5


@dataclass
class Memory:
    """The questions of one trace."""

    asked: dict[tuple[str, str], None] = field(default_factory=dict)  # name, line

    def notes(self) -> tuple[str, ...]:
        """What there is to say of them."""
        return tuple(
            f"{line} asks for {name}, of how memory lies: answered for inputs that lie as those of "
            "the example"
            for name, line in self.asked
        )


@contextmanager
def memory_asked(watch: Watch, strict: bool) -> Iterator[Memory]:
    """While open, such questions are noted. The strict tracer runs no line of the model's."""
    import torch

    memory = Memory()
    with ExitStack() as stack:
        for name in () if strict else _NAMES:
            reading = read_through(torch.Tensor, name, _reading(name, memory, watch))
            stack.enter_context(reading)
        yield memory


def _reading(name: str, memory: Memory, watch: Watch) -> Any:
    def read(held: Any, answer: Callable[[], Any], frame: Any) -> Any:
        if not of_users(frame) or _copies_alone(path_to(frame)):
            return answer()
        line = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        memory.asked.setdefault((name, line))
        if name == "is_contiguous":
            return _contiguous(held, answer(), watch, line)
        if not _is_input(held):
            for symbol in _symbols(held.shape):
                _turned(watch, held, ((symbol, 1),), line)
        return _strides(held, answer()) if name == "stride" else answer()

    return read


def _strides(held: Any, original: Any) -> Any:
    """`stride` of a tensor, with products of its lengths where it is dense."""

    def stride(dim: int | None = None) -> Any:
        made = _products(tuple(held.shape), tuple(original()))
        return made if dim is None else made[dim]

    return stride


def _products(shape: Sequence[Any], strides: Sequence[Any]) -> tuple[Any, ...]:
    """Strides as the products of lengths that they are, for the order of axes in memory; those that
    are no such product as they are."""
    made, dense = list(strides), 1
    for axis in sorted(range(len(shape)), key=lambda i: (_number(strides[i], {}), -i)):
        if _expression(dense) == _expression(strides[axis]):
            made[axis] = dense
        dense = dense * shape[axis]
    return tuple(made)


def _expression(length: Any) -> Any:
    return length.node.expr if hasattr(length, "node") else length


def _contiguous(held: Any, original: Any, watch: Watch, line: str) -> Any:
    def is_contiguous(*args: Any, **kwargs: Any) -> bool:
        answer = bool(original(*args, **kwargs))
        shape, strides = tuple(held.shape), tuple(held.stride())
        form = kwargs.get("memory_format", args[0] if args else None)
        for small in _turning(shape, strides, form, answer):
            _turned(watch, held, small, line)
        return answer

    return is_contiguous


def _turning(
    shape: Sequence[Any], strides: Sequence[Any], form: Any, answer: bool
) -> Iterator[tuple[tuple[Any, int], ...]]:
    """The fewest lengths that turn an answer where they are 1, or 0."""
    symbols = _symbols((*shape, *strides))
    found: list[tuple[tuple[Any, int], ...]] = []
    for count in range(1, min(len(symbols), _MOST) + 1):
        for chosen in itertools.combinations(symbols, count):
            small = tuple((symbol, 1) for symbol in chosen)
            known = any(set(less) <= set(small) for less in found)
            if not known and _lies(shape, strides, form, dict(small)) != answer:
                found.append(small)
    empty = [((s, 0),) for s in symbols if _lies(shape, strides, form, {s: 0}) != answer]
    yield from (*found, *empty)


def _lies(shape: Sequence[Any], strides: Sequence[Any], form: Any, small: Any) -> bool:
    """Whether a tensor is contiguous in a format where some lengths are small."""
    lengths, steps = ([_number(n, small) for n in each] for each in (shape, strides))
    expected = 1
    for axis in _order(len(lengths), form):
        if lengths[axis] != 1 and steps[axis] != expected and 0 not in lengths:
            return False
        expected *= lengths[axis]
    return True


def _order(rank: int, form: Any) -> Sequence[int]:
    """The axes of a format, the innermost first."""
    import torch

    if form in (torch.channels_last, torch.channels_last_3d):
        return (1, *range(rank - 1, 1, -1), 0)
    return range(rank - 1, -1, -1)


def _number(length: Any, small: Any) -> int:
    if not hasattr(length, "node"):
        return int(length)
    values = {**_usual(length), **small}
    return int(length.node.expr.subs({symbol: int(n) for symbol, n in values.items()}))


def _usual(length: Any) -> Any:
    return length.node.shape_env.backed_var_to_val


def _symbols(lengths: Sequence[Any]) -> list[Any]:
    """The free lengths of arguments among some lengths."""
    free = {
        symbol: None
        for length in lengths
        if hasattr(length, "node")
        for symbol in sorted(length.node.expr.free_symbols, key=str)
        if symbol in _usual(length)
    }
    return list(free)


def _turned(watch: Watch, held: Any, small: tuple[tuple[Any, int], ...], line: str) -> None:
    """Makes a condition of it that not all of these lengths are so small."""
    import sympy

    watch.environment = next(n for n in held.shape if hasattr(n, "node")).node.shape_env
    if len(small) == 1:
        settled: Any = ("ne", *small[0])
    else:
        settled = sympy.Or(*(sympy.Ne(symbol, number) for symbol, number in small))
    watch.small.setdefault(Turn(settled, (small,)), Asked("", "", line, True))


def _is_input(held: Any) -> bool:
    node = node_of(held)
    return node is not None and node.op == "placeholder"


def _copies_alone(path: tuple[ast.AST, ...]) -> bool:
    """Whether what is asked only decides whether a tensor is copied."""
    for node in reversed(path):
        if isinstance(node, ast.IfExp):
            one, other = node.body, node.orelse
            return ast.unparse(one) == _copy_of(other) or ast.unparse(other) == _copy_of(one)
        if isinstance(node, ast.If):
            return not node.orelse and all(map(_copies, node.body))
        if isinstance(node, ast.stmt):
            return False
    return False


def _copies(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    return _copy_of(statement.value) == ast.unparse(statement.targets[0])


def _copy_of(value: ast.expr) -> str:
    """The source of what is copied by `x.contiguous()` or `x.clone()`; "" of all else."""
    method = value.func if isinstance(value, ast.Call) else None
    copies = isinstance(method, ast.Attribute) and method.attr in ("contiguous", "clone")
    return ast.unparse(method.value) if isinstance(method, ast.Attribute) and copies else ""
