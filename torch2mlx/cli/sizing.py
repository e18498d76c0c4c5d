"""The option --sizes: other sizes of the example inputs, as they are written on a command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: The lengths of one argument: None stays as it is.
Shape = tuple[int | None, ...]

_ENTRY = re.compile(r"((?P<name>[\w.]+)=)?(?P<shape>(\d+|_)(x(\d+|_))*)")
HELP = (
    "other sizes to compare at: 2x16,3x40 are two, of the first input; ids=2x16,mask=2x16 is one, "
    "by names; _ leaves a length as it is, and inputs that are not named follow the named ones; "
    "can be given several times"
)


def asked(text: str) -> list[dict[str, Shape]]:
    """The sizes of one --sizes, the first input having "" as its name."""
    found: list[tuple[str, Shape]] = []
    for part in text.split(","):
        match = _ENTRY.fullmatch(part.strip())
        if match is None:
            raise argparse.ArgumentTypeError(
                f"{part.strip()!r} is no size: write 2x16, or NAME=2x16, _ for a length that stays"
            )
        lengths = match["shape"].split("x")
        shape = tuple(None if length == "_" else int(length) for length in lengths)
        found.append((match["name"] or "", shape))
    names = [name for name, _ in found]
    if not any(names):
        return [{"": shape} for _, shape in found]
    if not all(names):
        raise argparse.ArgumentTypeError(
            f"{text!r}: name all inputs, or none; several sizes by names are several --sizes"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {twice!r} has two shapes; several sizes by names are several --sizes"
        )
    return [dict(found)]


def settled(
    several: Sequence[Sequence[Mapping[str, Shape]]] | None,
    model: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> list[dict[str, Shape]]:
    """All sizes that were asked for, with the name of the first input."""
    from torch2mlx.export.capture.sizes import arrays_of

    first = next(iter(arrays_of(model, args, kwargs)), "")
    sizes = [size for text in several or () for size in text]
    return [{name or first: shape for name, shape in size.items()} for size in sizes]


def spelled(free: Mapping[str, Sequence[int]], shapes: Mapping[str, Sequence[Any]]) -> str:
    """The lengths of inputs as --sizes takes them, _ being free: "ids=_x_, image=_x3x_x_"."""
    return ", ".join(
        f"{name}={'x'.join('_' if i in free[name] else str(n) for i, n in enumerate(shape))}"
        for name, shape in shapes.items()
        if name in free
    )
