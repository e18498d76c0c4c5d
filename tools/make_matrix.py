"""`python -m tools.make_matrix`: runs the grid and writes docs/support-matrix.md."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from tests.catalog.grid import Case
from tests.catalog.measure import measure, measure_half
from tests.catalog.test_grid import FAMILIES
from tools.make_docs import evidence
from tools.make_operators import entries as ledger
from torch2mlx.catalog.layers import Twin, find_twin, twin_names
from torch2mlx.errors import Unsupported
from torch2mlx.op_mapping import known_ops

MATRIX = Path(__file__).parent.parent / "docs" / "support-matrix.md"
HEAD = """# Support matrix

Written by `python -m tools.make_matrix` from the grid in `tests/catalog`, which runs every layer of
torch.nn with combinations of its options in both frameworks. Differences are largest over all
cases and both modes, over max(1, largest value); float32 on the CPU. `half`: float16 and bfloat16
outputs; a dash where torch has no kernel. `channels_last`: the twin takes (N, *spatial, C).
Functions are below; all operators with what does not pass: [operators.md](operators.md).

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
        assert isinstance(found, Unsupported), name
        lines.append(f"* `{name}`: {found.detail}")
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


FUNCTIONS = """
## Functions

Functions and methods of `torch2mlx.op_mapping`, by their full torch names. `samples`: how many of
torch's own of that operator agree through translate, in how many dtypes; `forward` and `gradient`
are the largest float32 differences. Without samples: what else compares values (`guide`: a row of
[mapping-guide.md](mapping-guide.md); `calls`; the tests of the kit or of layers).

| torch | MLX | samples | dtypes | forward | gradient | else |
| --- | --- | --- | --- | --- | --- | --- |
"""


def functions() -> str:
    """The rows of functions, from the ledger of operators and the evidence of the mapping."""
    entries = {entry.name: entry for entry in ledger()}
    lines = []
    for op in known_ops():
        entry = entries.get(op.torch.removeprefix("torch."))
        figures = ["", "", "", ""]
        if entry is not None and entry.passed:
            slope = f"{entry.steepest:.0e}" if entry.gradients else ""
            gap = f"{entry.largest:.0e}" if entry.passed.get("float32") else ""
            figures = [str(sum(entry.passed.values())), str(len(entry.passed)), gap, slope]
        other = "missing" if op.status == "none" else evidence(op)
        target = f"`{op.mlx.replace('torch2mlx.kit', 'kit')}`" if op.mlx else ""
        lines.append(f"| `{op.torch}` | {target} | {' | '.join(figures)} | {other} |")
    return FUNCTIONS + "\n".join(lines) + "\n"


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MATRIX.write_text(page(rows()) + functions())
