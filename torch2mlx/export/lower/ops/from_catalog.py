"""Lowerings that need no function here: an entry of the catalogue says how MLX writes them.

That is so for functions which treat items alike. Their text, `mx.sqrt(mx.square({input}) + ...)`,
is read as Python and its calls and signs become nodes; what the text has no word for is refused.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from torch2mlx.catalog.functions.entry import Entry, Form
from torch2mlx.catalog.functions.table import FUNCTIONS, find_function
from torch2mlx.export.ir.builder import FLOATS, Builder, Refuse
from torch2mlx.export.ir.nodes import Node, Symbol
from torch2mlx.export.lower.ops.registry import Lowering

#: Layouts of functions whose shape and dtype follow from those of their arguments.
_ALIKE = ("elementwise", "pairwise", "itemwise")
#: Groups of functions under torch -> what the names of their operators start with.
_GROUPS = {"": "", "nn.functional.": "", "special.": "special_"}
#: Operators that have no public name -> the function that they are.
_INNER = {"_conj": "conj", "_conj_physical": "conj", "log_sigmoid": "nn.functional.logsigmoid"}
_SIGNS: dict[type[ast.AST], str] = {
    **{ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.Pow: "pow"},
    **{ast.FloorDiv: "floordiv", ast.Mod: "mod", ast.USub: "neg", ast.Invert: "invert"},
    **{ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor", ast.Eq: "eq", ast.NotEq: "ne"},
    **{ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"},
}
#: The first part of a name that is a module's.
_MODULES = ("mx", "nn", "kit")
#: An argument in a text: `{x}`, `{x!}`, `{x|0.5}`.
_ARGUMENT = re.compile(r"\{(\w+)(?:!|\|([^{}]*))?\}")


def _serves(entry: Entry) -> bool:
    plain = entry.returns == "tensor" and not entry.by_values
    return plain and entry.layout in _ALIKE and entry.written


def entry_of(name: str) -> Entry | None:
    """The entry that is the lowering of an operator, "aten::hypot"; None where none is."""
    space, _, operator = name.partition("::")
    if space != "aten":
        return None
    for group, start in _GROUPS.items():
        public = operator[len(start) :] if operator.startswith(start) else ""
        entry = find_function(f"torch.{group}{public}") if public else None
        if entry is not None and _serves(entry):
            return entry
    return find_function(f"torch.{_INNER[operator]}") if operator in _INNER else None


def catalogued_names() -> Iterator[str]:
    """Names of operators whose lowering is an entry."""
    for entry in filter(_serves, FUNCTIONS.values()):
        group, _, public = entry.name.rpartition(".")
        start = _GROUPS.get(f"{group}." if group else "")
        if start is not None:
            yield f"aten::{start}{public}"
    yield from (f"aten::{operator}" for operator in _INNER)


@cache
def catalogued(name: str, overload: str) -> Lowering | None:
    """The lowering that an entry of the catalogue is; None where there is none."""
    entry = entry_of(name)
    if entry is None:
        return None
    defaults = _defaults(name, overload)

    def lowering(b: Builder, **arguments: Any) -> Any:
        given = {k: v for k, v in arguments.items() if _is_given(v, k, defaults)}
        values = [_ready(b, value) for value in arguments.values()]
        form = next((f for f in entry.forms if _fits(f, arguments, given)), None)
        if form is not None:
            named = dict(zip(form.names, values, strict=False))
            kept = [n for n, k in zip(form.names, arguments, strict=False) if k in given]
            return _Writing(b, named).of(_read(form.text, tuple(kept)))
        if not entry.same:
            raise Refuse("no way to write it with these arguments is known")
        _, *later = zip(arguments, values, strict=True)
        return b.call(entry.same, values[0], **{k: v for k, v in later if k in given})

    return lowering


def _defaults(name: str, overload: str) -> Mapping[str, Any]:
    """What the schema of an operator gives for arguments that are left out."""
    operators = importlib.import_module("torch").ops.aten
    found = getattr(getattr(operators, name.partition("::")[2]), overload or "default")
    return {a.name: a.default_value for a in found._schema.arguments if a.has_default_value()}


def _is_given(value: Any, name: str, defaults: Mapping[str, Any]) -> bool:
    if isinstance(value, Node) or name not in defaults:
        return True
    default = defaults[name]
    return bool(type(value) is not type(default) or value != default)


def _fits(form: Form, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a form has a place for all arguments that are no defaults."""
    if form.fixed or any(name.startswith("*") for name in form.arguments):
        return False
    return all(key in list(arguments)[: len(form.names)] for key in given)


def _ready(b: Builder, value: Any) -> Any:
    """An argument as MLX has to see it: torch computes functions of whole numbers in floats, and
    takes the dtype of an array without axes for less than that of others."""
    if not isinstance(value, Node) or not value.is_array or b.dtype not in (*FLOATS, "complex64"):
        return value
    if value.dtype not in FLOATS and value.dtype != "complex64":
        return b.cast(value, "float32" if b.dtype == "complex64" else b.dtype)
    lone = value.ndim == 0 and value.dtype in FLOATS and b.dtype in FLOATS
    return b.cast(value, b.dtype) if lone and b.dtype != "float32" else value


@cache
def _read(text: str, given: tuple[str, ...]) -> ast.expr:
    """A text as Python, its arguments as names; without what stands for arguments not given."""

    def optional(found: re.Match[str]) -> str:
        names = {match[1] for match in _ARGUMENT.finditer(found[1])}
        return found[1] if names <= set(given) else ""

    def argument(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        return f"given_{name}" if default is None or name in given else f"({default})"

    plain = re.sub("«([^»]*)»", optional, text)
    return ast.parse(_ARGUMENT.sub(argument, plain), mode="eval").body


class _Writing:
    """Python that is read, as nodes."""

    def __init__(self, b: Builder, given: Mapping[str, Any]) -> None:
        self.b, self.given = b, given

    def of(self, part: ast.expr) -> Any:
        """The value of an expression: a node, a number, a name of MLX. Refuses other things."""
        if isinstance(part, ast.Constant):
            return part.value
        if isinstance(part, ast.Name) and part.id.startswith("given_"):
            return self.given[part.id.removeprefix("given_")]
        if isinstance(part, ast.BinOp):
            return self._sign(part.op, part.left, part.right)
        if isinstance(part, ast.UnaryOp):
            return self._sign(part.op, part.operand)
        if isinstance(part, ast.Compare) and len(part.ops) == 1:
            return self._sign(part.ops[0], part.left, *part.comparators)
        if isinstance(part, ast.Call):
            return self._call(part)
        if isinstance(part, ast.Attribute) and ast.unparse(part).startswith("mx."):
            return Symbol(ast.unparse(part))
        raise Refuse(f"the catalogue writes {ast.unparse(part)}, which only port reads")

    def _sign(self, sign: ast.AST, *operands: ast.expr) -> Any:
        if type(sign) not in _SIGNS:
            raise Refuse(f"the catalogue writes a {type(sign).__name__}, which only port reads")
        return self.b.call(f"operator.{_SIGNS[type(sign)]}", *map(self.of, operands))

    def _call(self, part: ast.Call) -> Any:
        called = ast.unparse(part.func)
        if called.partition(".")[0] not in _MODULES:
            raise Refuse(f"the catalogue calls {called}, which only port reads")
        options = {k.arg: self.of(k.value) for k in part.keywords if k.arg is not None}
        return self.b.call(called, *map(self.of, part.args), **options)
