"""One entry for a function of torch: how MLX writes it, what it returns, what it does to axes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: What a call returns: a tensor, two or three of them, a list of any length, a value of Python,
#: or what depends on arguments: on `dim`, on `as_tuple`, on flags for more results, on what was
#: given.
Returns = Literal[
    "tensor",
    "pair",
    "triple",
    "list",
    "bool",
    "int",
    "float",
    "numbers",
    "numpy",
    "unknown",
    "by_dim",
    "by_tuple",
    "by_flags",
    "as_given",
]
#: What a function does to the order of axes. It treats every item alike: of one array
#: ("elementwise"), of two ("pairwise"), or of as many as there are ("itemwise"). It takes axes as
#: numbers, which go ("reduction") or stay ("along"); it joins or parts along one; it takes images
#: whose channels come second ("images"). Of anything else nothing is known ("axes").
Layout = Literal[
    "elementwise",
    "pairwise",
    "itemwise",
    "reduction",
    "along",
    "joining",
    "parting",
    "images",
    "axes",
]
#: Signs between two arrays -> what mlx.core calls them.
SIGNS = {
    **{"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "@": "matmul", "**": "power"},
    **{"//": "floor_divide", "%": "remainder", "==": "equal", "!=": "not_equal", "<": "less"},
    **{"<=": "less_equal", ">": "greater", ">=": "greater_equal", "&": "bitwise_and"},
    **{"|": "bitwise_or", "^": "bitwise_xor"},
}
#: How the names of modules are written in texts, and in full.
_MODULES = {"mx.": "mlx.core.", "nn.": "mlx.nn.", "kit.": "torch2mlx.kit."}


@dataclass(frozen=True)
class Form:
    """One way to write a function: torch's arguments in order ("*" before the one that takes all
    that remain, "-" after one that does not count in MLX, "=True" after one that has to be that),
    and the text."""

    name: str
    arguments: tuple[str, ...]
    text: str

    @property
    def names(self) -> tuple[str, ...]:
        """Arguments by their names alone."""
        return tuple(name.strip("*-").partition("=")[0] for name in self.arguments)

    @property
    def fixed(self) -> dict[str, str]:
        """Arguments that have to be what is written here."""
        parts = (name.partition("=") for name in self.arguments if "=" in name)
        return {name: value for name, _, value in parts}

    @property
    def ignored(self) -> tuple[str, ...]:
        """Arguments that the text has no use for."""
        dropped = (name[:-1] for name in self.arguments if name.endswith("-"))
        return (*dropped, *self.fixed)


@dataclass(frozen=True)
class Entry:
    """A function under torch ("hypot", a tensor method too; "linalg.inv"; "nn.functional.pad").

    `forms`: the ways to write it, the first that has a place for all arguments is taken. `same`: a
    function that takes torch's arguments under torch's names, written where no form fits. Without
    either, `note` says why a script that calls it is refused. `mlx`: the dotted name that
    op_mapping shows, "" where there is none. `made`: its first argument is no tensor. `caution`:
    what a port's report tells to check. `tensor_only`: a method of that name is a tensor's.
    `by_values`: the shape of the result depends on values. `also`: other functions of MLX that
    translate writes for it. `untraced`: why translate has it not, where torch.export traces no call
    of it.
    """

    name: str
    forms: tuple[Form, ...] = ()
    same: str = ""
    mlx: str = ""
    note: str = ""
    returns: Returns = "tensor"
    layout: Layout = "axes"
    made: bool = False
    caution: str = ""
    tensor_only: bool = False
    by_values: bool = False
    also: tuple[str, ...] = ()
    untraced: str = ""

    @property
    def written(self) -> bool:
        """Whether a call of it can be written in MLX."""
        return bool(self.forms or self.same)


def op(
    names: str,
    *forms: str,
    same: str = "",
    mlx: str = "",
    note: str = "",
    returns: Returns = "tensor",
    layout: Layout = "axes",
    made: bool = False,
    caution: str = "",
    by_values: bool = False,
    also: str = "",
    untraced: str = "",
) -> tuple[Entry, ...]:
    """Entries for a function and its other names, which are separated by spaces. A dot before a
    name says that nothing but a tensor has a method of that name.

    A form is `arguments in torch's order | text`. In a text `{x}` is an argument, `{x!}` the same
    in brackets where it is no single term, `{x|1}` has a default, `«...»` stands only when its
    argument was given, `{*x}` are all remaining ones, `{(x)}` the same as a shape. `mlx` may be
    left out where the first text is a call or a sign between two arguments; then the text is the
    note, where there is none and it says more than what is called.
    """
    made_of = []
    for marked in names.split():
        name = marked.lstrip(".")
        rows = [form.split("|", 1) for form in forms]
        read = tuple(Form(name, tuple(left.split()), right.strip()) for left, right in rows)
        about = note or ("" if mlx else _remark(read))
        made_of.append(
            Entry(
                *(name, read, same, _full(mlx or _called(name, read, same)), about, returns),
                *(layout, made, caution, marked != name, by_values, tuple(also.split())),
                untraced,
            )
        )
    return tuple(made_of)


def bare(text: str) -> str:
    """A text without what stands only where an argument was given."""
    return re.sub("«[^»]*»", "", text)


def _called(name: str, forms: tuple[Form, ...], same: str) -> str:
    """What the first text calls; ValueError where it is no call and no sign."""
    if not forms:
        return same
    called = forms[0].text.partition("(")[0]
    if called.startswith(tuple(_MODULES)):
        return called
    sign = _sign(forms[0])
    if not sign:
        raise ValueError(f"{name}: its text is no call, so that mlx= has to be given")
    return SIGNS[sign]


def _sign(form: Form) -> str:
    """The sign that a text has between two arguments; "" where it is not that."""
    match = re.fullmatch(r"\{\w+!\} (\S+) \{\w+!\}", bare(form.text))
    return match[1] if match is not None and match[1] in SIGNS else ""


def _full(called: str) -> str:
    """A dotted name in full."""
    for short, full in _MODULES.items():
        if called.startswith(short):
            return full + called[len(short) :]
    return f"mlx.core.{called}" if called else ""


def _remark(forms: tuple[Form, ...]) -> str:
    """The first text, where it is more than one call or one sign."""
    if not forms or _sign(forms[0]):
        return ""
    text = re.sub(r"\{\*?\(?(\w+)[^{}]*\}", r"\1", bare(forms[0].text))
    called, _, rest = text.partition("(")
    plain = called.replace(".", "").isidentifier() and rest.count("(") == 0
    return "" if plain and rest.endswith(")") else text
