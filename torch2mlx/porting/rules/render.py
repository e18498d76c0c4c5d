"""Calls of torch as text in MLX, from the entries of `catalog/functions`."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch2mlx.catalog.functions.entry import Entry, Form
from torch2mlx.catalog.functions.table import find_function
from torch2mlx.common.apple import CPU_LINALG

#: Arguments that say where memory lies, or that MLX decides itself.
PLACEMENT = frozenset(
    [
        *("device", "layout", "pin_memory", "memory_format", "non_blocking", "inplace"),
        *("generator", "requires_grad", "sparse", "copy", "async_", "stable", "driver"),
        "sorted",  # what comes in an order is sorted
    ]
)
#: Other names of arguments, numpy's and those of methods.
_ALIASES = {
    **{"axis": "dim", "keepdims": "keepdim", "self": "input", "x": "input", "mat2": "other"},
    **{"vec2": "other", "tensor": "other", "exponent": "other", "axis0": "dim0", "axis1": "dim1"},
    **{"dims": "dim", "indices": "index", "divisor": "other", "arrays": "tensors", "axes": "dims"},
    **{"source": "src", "split_size_or_sections": "split_size", "split_sizes": "split_size"},
    **{"vec": "other", "fill_value": "value", "a": "input", "b": "other", "sections": "chunks"},
}
_SEGMENT = re.compile(r"«([^«»]*)»")
_HOLE = re.compile(r"\{(\*?)(\(?)(\w+)\)?(!?)(?:\|([^{}]*))?\}")
#: Functions of mlx.core that arrays have as methods too.
METHODS = frozenset(
    [
        *("abs", "all", "any", "argmax", "argmin", "cos", "cummax", "cummin", "cumprod"),
        *("cumsum", "diag", "diagonal", "exp", "flatten", "log", "log10", "log1p", "log2"),
        *("logcumsumexp", "logsumexp", "max", "mean", "min", "moveaxis", "prod"),
        *("reciprocal", "reshape", "round", "rsqrt", "sin", "split", "sqrt", "square"),
        *("squeeze", "std", "sum", "swapaxes", "transpose", "var"),
    ]
)


@dataclass(frozen=True)
class Argument:
    """One argument of a call, already in MLX: its keyword ("" by place), text, and star."""

    keyword: str
    text: str
    star: str = ""
    kind: str = "unknown"


def bind(form: Form, given: Sequence[Argument]) -> dict[str, Any] | None:
    """Arguments by the names of a row; None when the row has no place for one."""
    names = list(form.names)
    rest = next((n for n in form.arguments if n.startswith("*")), "").lstrip("*")
    bound: dict[str, Any] = {}
    places = iter(names)
    for argument in given:
        if argument.star == "**":
            return None
        if argument.keyword:
            name = argument.keyword
            name = name if name in names else _ALIASES.get(name, name)
            if name in names:
                bound[name] = [argument] if name == rest else argument
            elif name not in PLACEMENT:
                return None
            continue
        name = next((n for n in places if n not in bound or n == rest), "")
        if name == rest and rest:
            bound.setdefault(rest, []).append(argument)
            places = iter(names[names.index(rest) :])
        elif not name or argument.star:
            return None
        else:
            bound[name] = argument
    used = {m[3] for m in _HOLE.finditer(form.text)} | set(form.ignored)
    used |= {"input"} if "|input" in form.text else set()
    other = any(n in bound and bound[n].text != value for n, value in form.fixed.items())
    return bound if not other and all(n in used or n in PLACEMENT for n in bound) else None


def assigned(base: str, given: Sequence[Argument]) -> str | None:
    """What the function or method in place of a function assigns to its first argument."""
    for full in (f"torch.{base}", f"torch.nn.functional.{base}"):
        entry = find_function(full)
        text = None if entry is None else written(entry.forms, given, True)
        if text is None and entry is not None and entry.same:
            text = same(entry, given)
        if text is not None:
            return text
    return None


def is_atom(text: str) -> bool:
    """Whether a text can stand before a dot or beside an operator as it is."""
    plain = text.strip()
    if re.fullmatch(r"[\w.]+", plain):
        return True
    try:
        node = ast.parse(f"({plain}\n)", mode="eval").body
    except SyntaxError:
        return False
    single = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Dict, ast.ListComp)
    if isinstance(node, single):
        return True
    return plain.startswith("(") and _closes(plain) == len(plain) - 1


def _closes(text: str) -> int:
    """Where the first bracket of a text is closed; strings are not looked into."""
    depth = 0
    for i, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if not depth:
            return i
    return -1


def term(text: str) -> str:
    """A text as a single term."""
    return text if is_atom(text) else f"({text})"


def _listed(arguments: Sequence[Argument]) -> str:
    return ", ".join(a.star + a.text for a in arguments)


def _shape(arguments: Sequence[Argument], strict: bool) -> str:
    """Lengths as one argument; `strict`: what takes it takes no single number."""
    if len(arguments) == 1 and not arguments[0].star:
        only = arguments[0]
        if strict and only.kind == "unknown" and re.fullmatch(r"[\w.]*\w", only.text):
            return f"kit.tensors.shape({only.text})"
        return f"({only.text},)" if only.kind == "int" else only.text
    return f"({_listed(arguments)}{',' if len(arguments) == 1 else ''})"


def _hole(match: re.Match[str], bound: dict[str, Any], strict: bool) -> str:
    _, shape, name, single, default = match.groups()
    if name not in bound:
        if default is None:
            raise KeyError(name)
        if default == "input":
            return str(bound["input"].text)
        if default == "input.dtype":
            return f"{term(bound['input'].text)}.dtype"
        return str(default)
    value = bound[name]
    if isinstance(value, list):
        return _shape(value, strict) if shape else _listed(value)
    if shape:
        return _shape([value], strict)
    return term(value.text) if single else str(value.text)


def fill(form: Form, bound: dict[str, Any]) -> str | None:
    """The text of a row with its arguments; None when one that it needs was not given."""

    def segment(match: re.Match[str]) -> str:
        needed = [m[3] for m in _HOLE.finditer(match[1])]
        return match[1] if all(n in bound for n in needed) else ""

    try:
        text = _SEGMENT.sub(segment, form.text)
        return _HOLE.sub(lambda m: _hole(m, bound, "random" in form.text), text)
    except KeyError:
        return None


def written(rows: Sequence[Form], given: Sequence[Argument], method: bool) -> str | None:
    """The first form that takes the arguments, as text; `method`: called on the first of them,
    which is the form's `input` wherever that stands."""
    for form in rows:
        moved = method and "input" in form.arguments[1:]
        first = [replace(given[0], keyword="input")] if moved else given[:1]
        bound = bind(form, [*first, *given[1:]])
        text = None if bound is None else fill(form, bound)
        if text is None or bound is None:
            continue
        return _as_method(form, text, bound) if method else text
    return None


#: torch's names of arguments -> those of mlx.core.linalg, mlx.core.fft and kit.activations.
_THEIRS = {"dim": "axis", "keepdim": "keepdims", "input": "a"}


def same(entry: Entry, given: Sequence[Argument]) -> str:
    """A call of the function that takes torch's arguments."""
    kept = [a for a in given if a.keyword not in PLACEMENT]
    own = entry.same.startswith("kit.") and not entry.same.startswith("kit.activations.")
    words = {} if own else _THEIRS
    texts = [
        f"{words.get(a.keyword, a.keyword)}={a.text}" if a.keyword else a.star + a.text
        for a in kept
    ]
    group, _, name = entry.same.rpartition(".")
    texts += ["stream=mx.cpu"] * (group == "mx.linalg" and name in CPU_LINALG)
    return f"{entry.same}({', '.join(texts)})"


def _as_method(form: Form, text: str, bound: dict[str, Any]) -> str:
    """mx.sum(x, axis=1) as x.sum(axis=1), where arrays have the method."""
    receiver = bound["input"].text if "input" in bound else ""
    match = re.match(r"mx\.(\w+)\(", text)
    if (
        match is None
        or match[1] not in METHODS
        or not form.text.startswith(f"mx.{match[1]}({{input}}")
    ):
        return text
    head = f"mx.{match[1]}({receiver}"
    if not text.startswith(head):
        return text
    tail = text[len(head) :].removeprefix(", ")
    return f"{term(receiver)}.{match[1]}({tail}"
