"""One entry for a function of torch: how MLX writes it, what it returns, what it does to axes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: What a call returns: a tensor, two or three of them, a list of any length, a truth of Python.
#: or what depends on whether `dim` was given, or on what was given.
Returns = Literal["tensor", "pair", "triple", "list", "bool", "nothing", "by_dim", "as_given"]
#: What a function does to the order of axes: it treats every item alike (of one array, or of two),
#: or it depends on where axes are.
Layout = Literal["elementwise", "pairwise", "axes"]


@dataclass(frozen=True)
class Form:
    """One way to write a function: torch's arguments in order ("*" before the one that takes all
    that remain, "-" after one that does not count in MLX), and the text."""

    name: str
    arguments: tuple[str, ...]
    text: str

    @property
    def ignored(self) -> tuple[str, ...]:
        """Arguments that the text has no use for."""
        return tuple(name[:-1] for name in self.arguments if name.endswith("-"))


@dataclass(frozen=True)
class Entry:
    """A function under torch ("hypot", a tensor method too; "linalg.inv"; "nn.functional.pad").

    `forms`: the ways to write it, the first that has a place for all arguments is taken; without
    any, `note` says why a script that calls it is refused. `mlx`: the dotted name that op_mapping
    shows. `made`: its first argument is no tensor. `caution`: what a port's report tells to check.
    """

    name: str
    forms: tuple[Form, ...]
    mlx: str
    note: str = ""
    returns: Returns = "tensor"
    layout: Layout = "axes"
    made: bool = False
    caution: str = ""

    @property
    def remark(self) -> str:
        """The note; without one the text, where it is more than a call of `mlx`."""
        if self.note or not self.forms:
            return self.note
        text = re.sub(r"\{\*?(\w+)[^{}]*\}", r"\1", re.sub("«[^»]*»", "", self.forms[0].text))
        called, _, rest = text.partition("(")
        plain = called.replace(".", "").isidentifier() and rest.count("(") == 0
        return "" if plain and rest.endswith(")") else text


#: How the names of modules are written in texts, and in full.
_MODULES = {"mx.": "mlx.core.", "nn.": "mlx.nn.", "kit.": "torch2mlx.kit."}


def op(
    names: str,
    *forms: str,
    mlx: str = "",
    note: str = "",
    returns: Returns = "tensor",
    layout: Layout = "axes",
    made: bool = False,
    caution: str = "",
) -> tuple[Entry, ...]:
    """Entries for a function and its other names, which are separated by spaces.

    A form is `arguments in torch's order | text`. In a text `{x}` is an argument, `{x!}` the same
    in brackets where it is no single term, `{x|1}` has a default, `«...»` stands only when its
    argument was given, `{*x}` are all remaining ones, `{(x)}` the same as a shape. `mlx` may be
    left out where the first text is a call: it is what is called.
    """
    made_of = []
    for name in names.split():
        rows = [form.split("|", 1) for form in forms]
        read = tuple(Form(name, tuple(left.split()), right.strip()) for left, right in rows)
        made_of.append(Entry(name, read, _full(mlx, read), note, returns, layout, made, caution))
    return tuple(made_of)


def _full(mlx: str, forms: tuple[Form, ...]) -> str:
    """The dotted name in full, of what is named or of what the first text calls."""
    called = mlx or (forms[0].text.partition("(")[0] if forms else "")
    for short, full in _MODULES.items():
        if called.startswith(short):
            return full + called[len(short) :]
    if forms and not mlx:
        raise ValueError(f"{forms[0].name}: its text is no call, so that mlx= has to be given")
    return f"mlx.core.{called}" if called else ""
