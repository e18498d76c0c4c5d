"""What the arguments of a function are: what it is called with, else what its body shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import lru_cache

from torch2mlx.analysis.functions import Function
from torch2mlx.analysis.values import (
    HOST,
    OF_TENSORS,
    TENSOR,
    UNKNOWN,
    Value,
    listed,
    of_annotation,
    of_object,
)

_TENSOR_ATTRIBUTES = ("shape", "dtype", "device", "ndim", "T", "mT", "requires_grad")


#: Functions of torch whose first argument may be a number, a list or a function.
_OF_NUMBERS: tuple[str, ...] = (
    "tensor",
    "as_tensor",
    "asarray",
    "zeros",
    "ones",
    "full",
    "empty",
    "rand",
    "randn",
)
_OF_NUMBERS += ("arange", "eye", "linspace", "stack", "cat", "randint", "randperm", "checkpoint")
_OF_NUMBERS += ("Size", "device", "vmap", "cond", "from_numpy", "numel", "manual_seed")


def given_to(
    source: Function,
    own: Value | None,
    given: list[Value],
    named: Mapping[str, Value],
    unsure: bool = False,
) -> dict[str, Value]:
    """Argument -> value, where a function is called with these; all of them without any.

    `unsure`: there were starred arguments, so that places are not known.
    """
    arguments = source.tree.args
    plain = [*arguments.posonlyargs, *arguments.args]
    values: dict[str, Value] = {}
    bound = own is not None and not _static(source.tree)
    if bound and plain:
        values[plain.pop(0).arg] = own or UNKNOWN
    called = given or named
    passed = dict(zip([a.arg for a in plain], [] if unsure else given, strict=False))
    passed.update({name: value for name, value in named.items()})
    shown = _shown_tensors(source)
    first = plain[0].arg if plain and bound and not called else ""
    defaults = _defaults(arguments)
    for argument in (*plain, *arguments.kwonlyargs):
        name = argument.arg
        value = passed.get(name, UNKNOWN)
        if name not in passed and name in defaults and called and not unsure:
            value = _constant(defaults[name])
        values[name] = (
            value if value != UNKNOWN else _promised(argument, name, defaults, shown, first)
        )
    if arguments.vararg:
        values[arguments.vararg.arg] = listed(UNKNOWN)
    if arguments.kwarg:
        values[arguments.kwarg.arg] = UNKNOWN
    return values


def _promised(
    argument: ast.arg,
    name: str,
    defaults: Mapping[str, ast.expr],
    shown: frozenset[str],
    first: str,
) -> Value:
    """What an argument is by its annotation, its default, and what the body does with it."""
    if argument.annotation is not None:
        promised = of_annotation(ast.unparse(argument.annotation))
        if promised is not None:
            return promised
    default = defaults.get(name)
    if isinstance(default, ast.Constant) and default.value is not None:
        return HOST
    return TENSOR if name in shown or name == first else UNKNOWN


def _constant(default: ast.expr) -> Value:
    return of_object(default.value) if isinstance(default, ast.Constant) else UNKNOWN


def _defaults(arguments: ast.arguments) -> dict[str, ast.expr]:
    plain = [*arguments.posonlyargs, *arguments.args]
    tail = plain[len(plain) - len(arguments.defaults) :]
    found = {a.arg: d for a, d in zip(tail, arguments.defaults, strict=True)}
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {**found, **{a.arg: d for a, d in pairs if d is not None}}


def _static(tree: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in tree.decorator_list)


@lru_cache(maxsize=8192)
def _shown_tensors(source: Function) -> frozenset[str]:
    """Names that are used as only tensors are."""
    return frozenset(_used_as_tensors(source))


def _used_as_tensors(source: Function) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in OF_TENSORS or node.attr in _TENSOR_ATTRIBUTES:
                yield node.value.id
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            if isinstance(node.slice, ast.Tuple):
                yield node.value.id
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield from (side.id for side in (node.left, node.right) if isinstance(side, ast.Name))
        elif isinstance(node, ast.Call):
            yield from _passed(source, node)


def _passed(source: Function, call: ast.Call) -> Iterator[str]:
    """Names that a function of torch or a layer is given first."""
    first = call.args[0] if call.args else None
    if not isinstance(first, ast.Name):
        return
    name = source.names.dotted(call.func) or ""
    short = name.rpartition(".")[2]
    if name.startswith("torch.") and not short.startswith("is_") and short not in _OF_NUMBERS:
        yield first.id
