"""`python -m tools.make_matrix`: runs the grid and writes docs/support-matrix.md."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from tests.twins.grid import Case
from tests.twins.measure import measure, measure_half
from tests.twins.test_grid import FAMILIES
from torch2mlx.twins import Refused, Twin, find_twin, twin_names

MATRIX = Path(__file__).parent.parent / "docs" / "support-matrix.md"
HEAD = """# Support matrix

Written by `python -m tools.make_matrix` from the grid in `tests/twins`, which runs every layer of
torch.nn with combinations of its options in both frameworks. Differences are largest over all
cases and both modes, over max(1, largest value); float32 on the CPU. `half`: float16 and bfloat16
outputs; a dash where torch has no kernel. `channels_last`: the twin takes (N, *spatial, C).
Functions and operators, with their own figures: [operators.md](operators.md).

| torch.nn | MLX | layout | cases | forward | gradient | half |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass
class Row:
    """What the grid found for one layer class."""

    twins: set[str] = field(default_factory=set)
    layout: str = ""
    cases: int = 0
    forward: float = 0.0
    gradient: float = 0.0
    half: float | None = None


def add(row: Row, case: Case) -> None:
    """Measures one case into its row."""
    found = find_twin(case.make())
    assert isinstance(found, Twin)
    row.twins.add(found.path.replace("torch2mlx.kit", "kit"))
    row.layout = found.layout
    for mode in case.modes:
        measured = measure(case, mode)
        row.cases += 1
        row.forward = max(row.forward, measured.forward)
        row.gradient = max(row.gradient, measured.gradient)
    for dtype in ("float16", "bfloat16") if case.halves else ():
        half = measure_half(case, dtype)
        if half is not None:
            row.half = max(row.half or 0.0, half)


def rows() -> dict[str, Row]:
    """All rows, by layer name."""
    found: dict[str, Row] = defaultdict(Row)
    for cases in FAMILIES.values():
        for case in cases:
            np.random.seed(0)
            torch.manual_seed(0)
            add(found[case.name.split("(")[0]], case)
    return dict(sorted(found.items()))


def refusals() -> list[str]:
    """Options that are refused, with the reason the code gives."""
    from torch import nn

    tried = {
        "Embedding(max_norm=...)": nn.Embedding(3, 2, max_norm=1.0),
        "Embedding(scale_grad_by_freq=True)": nn.Embedding(3, 2, scale_grad_by_freq=True),
        "EmbeddingBag(max_norm=...)": nn.EmbeddingBag(3, 2, max_norm=1.0),
        "TransformerEncoderLayer(activation=silu)": nn.TransformerEncoderLayer(
            4, 2, 4, activation=nn.functional.silu
        ),
        "TripletMarginWithDistanceLoss(distance_function=...)": nn.TripletMarginWithDistanceLoss(
            distance_function=lambda a, b: a - b
        ),
    }
    lines = []
    for name, layer in tried.items():
        found = find_twin(layer)
        assert isinstance(found, Refused), name
        lines.append(f"* `{name}`: {found.reason}")
    return lines


def page(found: dict[str, Row]) -> str:
    """The whole document."""
    lines = []
    for name, row in found.items():
        half = "-" if row.half is None else f"{row.half:.0e}"
        twins = ", ".join(f"`{twin}`" for twin in sorted(row.twins))
        figures = f"{row.forward:.0e} | {row.gradient:.0e} | {half}"
        lines.append(f"| `{name}` | {twins} | {row.layout} | {row.cases} | {figures} |")
    total = sum(row.cases for row in found.values())
    told = f"\n{len(found)} layers, {total} cases; {len(twin_names())} classes have a twin.\n"
    refused = "\n## Refused\n\n" + "\n".join(refusals()) + "\n"
    return HEAD + "\n".join(lines) + "\n" + told + refused


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MATRIX.write_text(page(rows()))
