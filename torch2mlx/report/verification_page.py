"""The page of a verification: what differs, a strip of all layers, every comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.report.page import Cell, Head, Item, Kind, Line, Verdict, numbers, rendered

_HEADS = (
    *(Head("What"), Head("Name"), Head("Inputs"), Head("Difference", True)),
    *(Head("Allowed", True), Head("Verdict")),
)
_LAYERS = (Head("Layer"), Head("Difference", True), Head("Allowed", True), Head("Verdict"))
_VERDICTS: dict[str, tuple[str, Kind]] = {
    "equal": ("both compute the same", "good"),
    "differs": ("they differ", "bad"),
    "unstable": ("the same, but for unstable outputs", "warn"),
    "incomparable": ("not all could be compared", "warn"),
}


@dataclass(frozen=True)
class Bar:
    """A cell of a strip: its status in the stylesheet, a sign, and what it stands for."""

    status: str
    sign: str
    title: str


def verification_page(checked: Any, name: str) -> str:
    """The whole page of a Verification."""
    told, kind = _VERDICTS[checked.verdict]
    off = [o for o in checked.outputs if not o.ok]
    kinds = {o.verdict for o in checked.outputs}
    return rendered(
        "verify.html",
        f"{name}: PyTorch and MLX compared",
        "verify",
        Verdict(told, kind),
        (
            ("comparisons", str(len(checked.outputs))),
            ("not equal", str(len(off))),
            ("largest difference", _figure(checked.difference)),
            ("layers that differ", _layers_off(checked.layers)),
        ),
        list(_items(checked)),
        f"All of {numbers(len(checked.outputs), 'comparison')} are within what is allowed.",
        strip=[_bar(layer) for layer in checked.layers],
        layers=[_layer(layer) for layer in checked.layers],
        layer_heads=_LAYERS,
        heads=_HEADS,
        rows=[_row(output) for output in checked.outputs],
        kinds=[(k, k) for k in _VERDICTS if k in kinds],
        layer_kinds=[(k, k) for k in _VERDICTS if k in {o.verdict for o in checked.layers}],
    )


def _items(checked: Any) -> Iterator[Item]:
    remarks = checked.remarks()
    if checked.apart:
        yield Item(f"The first layer that differs: `{checked.first or 'the model itself'}`", "bad")
        remarks = remarks[1:]
    yield from (_item(output) for output in checked.outputs if not output.ok)
    yield from (Item(remark, "warn") for remark in remarks)


def _figure(value: float) -> str:
    return "not a number" if value != value else f"{value:.1e}"


def _layers_off(layers: Sequence[Any]) -> str:
    if not layers:
        return "not compared"
    return f"{sum(not layer.ok for layer in layers)} of {len(layers)}"


def _item(output: Any) -> Item:
    name = output.name or "output"
    text = f"{output.what} {output.verdict}: {output.reason or output.unlike}".removesuffix(": ")
    gap = f"difference {_figure(output.difference)}, allowed {_figure(output.tolerance)}"
    where = f"{output.case}: {name}" if output.case else name
    return Item(text, "bad" if output.verdict == "differs" else "warn", where, gap)


def _bar(layer: Any) -> Bar:
    told = f"{layer.name}: {_figure(layer.difference)}, allowed {_figure(layer.tolerance)}"
    return Bar("mapped", "", told) if layer.ok else Bar("refused", "✕", f"{told}: differs")


def _cells(output: Any) -> Iterator[Cell]:
    gap = output.difference
    yield Cell(_figure(gap), gap if math.isfinite(gap) else 1e300)
    yield Cell(_figure(output.tolerance), output.tolerance)
    kind = _VERDICTS[output.verdict][1]
    yield Cell(output.why.removeprefix("<- ") or "equal", kind=kind)


def _row(output: Any) -> Line:
    first = (Cell(output.what), Cell(output.name or "output", code=True), Cell(output.case))
    return Line((*first, *_cells(output)), output.verdict)


def _layer(layer: Any) -> Line:
    return Line((Cell(layer.name, code=True), *_cells(layer)), layer.verdict)
