"""What functions do to the order of axes, as sets of names: read from the entries, said nowhere
else."""

from __future__ import annotations

import re
from functools import cache

from torch2mlx.catalog.functions.entry import Entry, Layout, bare
from torch2mlx.catalog.functions.table import FUNCTIONS

#: Layouts of functions whose items come from items at the same place.
_ALIKE = ("elementwise", "pairwise", "itemwise")
#: Layers that hand on what they get, so that no function is named like them.
_IDLE = frozenset(("identity",))
#: Signs -> the operator in the intermediate form of translate.
_OPERATORS = {
    **{"+": "add", "-": "sub", "*": "mul", "/": "truediv", "**": "pow", "//": "floordiv"},
    **{"%": "mod", "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"},
    **{"&": "and_", "|": "or_", "^": "xor"},
}
_CALLED = re.compile(r"\b((?:mx|nn|kit)(?:\.\w+)+)\(")
_SIGN = re.compile(r" (\S+) (?=[{(\d«])")


@cache
def functions_with(*layouts: Layout) -> frozenset[str]:
    """Names of functions under torch and torch.nn.functional, and of methods, that are one of
    these; "special.erf" under torch.special."""
    return frozenset(
        entry.name.removeprefix("nn.functional.")
        for entry in FUNCTIONS.values()
        if entry.layout in layouts
    )


def is_elementwise_layer(name: str) -> bool:
    """Whether a layer treats every item alike, by the name of its class (in torch, or of what
    stands for it in MLX): it does if the function of that name does."""
    plain = _plain(name)
    return plain in _IDLE or plain in _elementwise_names()


@cache
def _elementwise_names() -> frozenset[str]:
    return frozenset(map(_plain, functions_with("elementwise")))


def _plain(name: str) -> str:
    """LeakyReLU and leaky_relu as one name."""
    return name.replace("_", "").lower()


@cache
def itemwise_calls() -> frozenset[str]:
    """Operations of the intermediate form whose items come from items at the same place, of any
    number of arrays: what functions of that kind are written with."""
    entries = (entry for entry in FUNCTIONS.values() if entry.layout in _ALIKE)
    return frozenset(call for entry in entries for call in _calls(entry))


def _calls(entry: Entry) -> set[str]:
    found = {*entry.also, *([entry.same] if entry.same else ())}
    for form in entry.forms:
        if ".shape" in form.text:
            continue  # made anew, of the same lengths
        found.update(_CALLED.findall(form.text))
        found.update("method.astype" for _ in re.findall(r"\.astype\(", bare(form.text)))
        signs = _SIGN.findall(form.text.replace("« ", " «"))
        found.update(f"operator.{_OPERATORS[s]}" for s in signs if s in _OPERATORS)
    return found
