"""The page of two trainings in lock-step: causes, a strip of steps, the curves, both scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch2mlx.common.side_by_side import folded, rows_of
from torch2mlx.report.page import Cell, Head, Item, Line, Verdict, rendered
from torch2mlx.report.verification_page import Bar

_AROUND = 3
#: Width and height of the picture of losses, in its own units.
_WIDE, _HIGH = 640, 200


def training_page(found: Any, name: str, scripts: Sequence[str] = ()) -> str:
    """The whole page; `scripts` are the sources of both, torch's first, where they are to hand."""
    kinds = list(dict.fromkeys(kind for step in found.steps for kind in step.differences))
    first = found.first
    told = f"they part: {first.kind} {first.where}".strip() if first else "the two train alike"
    last = found.steps[-1] if found.steps else None
    return rendered(
        "verify-training.html",
        name,
        "verify-training",
        Verdict(told, "bad" if first else "good"),
        (
            ("steps compared", str(len(found.steps))),
            ("causes", str(len(found.causes))),
            ("torch's loss at the last", _loss(last and last.torch_loss)),
            ("MLX's loss at the last", _loss(last and last.mlx_loss)),
        ),
        [*(_item(cause) for cause in found.causes), *(Item(n, "warn") for n in found.notes)],
        "Both scripts computed the same at every step.",
        strip=[_bar(step, found.causes) for step in found.steps],
        curves=_curves(found.steps),
        heads=(
            *(Head("Step", True), Head("Optimizer"), Head("torch's loss", True)),
            *(Head("MLX's loss", True), *(Head(kind, True) for kind in kinds)),
        ),
        rows=[_row(step, kinds) for step in found.steps],
        sides=list(folded(rows_of(*scripts), _AROUND)) if scripts else [],
    )


def _loss(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _item(cause: Any) -> Item:
    at = f"step {cause.step}" if cause.step else "before the first step"
    lines = [line for line in cause.lines if line]
    where = f"{at}, {cause.where}" if cause.where else at
    return Item(f"{cause.kind}: {cause.detail}", "bad", where, ", ".join(lines))


def _bar(step: Any, causes: Sequence[Any]) -> Bar:
    parted = [c for c in causes if c.step and c.step <= step.step]
    found = [f"{name} {v:.1e}" for name, v in step.differences.items() if v is not None]
    told = f"step {step.step}: {', '.join(found) or 'nothing compared'}"
    if any(c.step == step.step for c in causes):
        return Bar("refused", "✕", f"{told}; a cause is here")
    if parted:
        return Bar("custom", "!", f"{told}; after a cause")
    return Bar("mapped", "", told)


def _curves(steps: Sequence[Any]) -> Mapping[str, str]:
    """The points of both losses, in a box of fixed size; nothing where there is no curve."""
    both = {"torch": [s.torch_loss for s in steps], "mlx": [s.mlx_loss for s in steps]}
    known = [v for side in both.values() for v in side if v is not None and v - v == 0]
    if len(steps) < 2 or len(known) < 3:
        return {}
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    return {
        name: " ".join(
            f"{_WIDE * i / (len(steps) - 1):.1f},{8 + (_HIGH - 16) * (high - v) / span:.1f}"
            for i, v in enumerate(values)
            if v is not None and v - v == 0
        )
        for name, values in both.items()
    }


def _row(step: Any, kinds: Sequence[str]) -> Line:
    losses = (step.torch_loss, step.mlx_loss)
    cells = [Cell(str(step.step), step.step), Cell(step.optimizer)]
    cells += [Cell(_loss(loss), loss) for loss in losses]
    for kind in kinds:
        gap = step.differences.get(kind)
        cells.append(Cell("" if gap is None else f"{gap:.1e}", gap))
    return Line(cells)
